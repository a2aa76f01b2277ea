# ferry-index stopped: by signals in order, by a second one at once, by kill -9 at any moment; and the
# next run goes on.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

running=
clean_up() { [ -z "$running" ] || kill -9 "$running" 2>/dev/null; }

mkdir -p tree/many
n=0
while [ $n -lt 1500 ]; do
    n=$((n + 1))
    echo "content $n" >tree/many/file$n
done
echo gone soon >tree/vanishing
index tree
rm tree/vanishing catalog.db.none 2>/dev/null

# A file that takes minutes to hash: the run is certain to be in the middle of it.
start() {
    "$ferry_index" -j 2 "$@" >out 2>err &
    running=$!
}
finish() {
    status=0
    wait "$running" || status=$?
    running=
    cat out err >&2
}

mkdir long
truncate -s 1T long/endless
n=0
while [ $n -lt 300 ]; do
    n=$((n + 1))
    echo "long $n" >long/file$n
done
index -o fresh.db tree

interrupt() { # signal, status, state of the run
    rm -f stop.db*
    start -o stop.db long
    # Everything but the endless file is hashed, and waits in the catalogue or on its way there.
    wait_for eval '[ "$(sqlite3 stop.db "SELECT count(*) FROM files WHERE sha256 NOT NULL")" = 300 ]'
    kill -"$1" "$running"
    finish
    echo "status $status" >&2
    same "$status" "$2" && same "$(sqlite3 stop.db 'SELECT state, finished NOT NULL FROM runs')" "interrupted|1"
}
ok 'SIGINT: exit 130, and the run is interrupted' interrupt INT 130
ok 'it says where it stands' eval 'says "^hashed: 300 files" && warns "stopped by Ctrl-C.*it goes on from here"'
ok 'what was complete is in the catalogue' same \
    "$(sqlite3 stop.db 'SELECT count(*), count(sha256), count(error) FROM files')" '301|300|0'
ok 'what was not is not' same "$(sqlite3 stop.db "SELECT count(*) FROM files WHERE path = 'long/endless'")" 0
ok 'the catalogue is whole' same "$(sqlite3 stop.db 'PRAGMA integrity_check')" ok
ok 'SIGTERM: exit 143' interrupt TERM 143
# Started with SIGHUP ignored, as by nohup, the shell cannot give it back.
sh -c 'kill -HUP $$' || ok 'SIGHUP: exit 129' interrupt HUP 129
rm -f stop.db*
(trap '' HUP; exec "$ferry_index" -j 2 -o stop.db long >out 2>err) &
running=$!
wait_for eval 'sqlite3 stop.db "SELECT state FROM runs" | grep -q running'
kill -HUP "$running"
kill -INT "$running"
finish
ok 'a SIGHUP that is ignored, as by nohup, stays so' eval '[ $status -eq 130 ] && warns "stopped by Ctrl-C"'
ok 'without a summary, when it was told to be quiet' eval 'start -o stop.db --quiet long &&
    wait_for eval "sqlite3 stop.db \"SELECT state FROM runs\" | grep -q running" && kill -INT $running && finish &&
    [ $status -eq 130 ] && [ ! -s out ]'
start -o stop.db --json long
wait_for eval 'sqlite3 stop.db "SELECT state FROM runs" | grep -q running'
kill -TERM "$running"
finish
ok '--json says so, too' same "$(member .state) $(member .status)" 'interrupted 143'

rm long/file1
start -o stop.db long
wait_for eval 'sqlite3 stop.db "SELECT state FROM runs" | grep -q running'
kill -INT "$running"
finish
ok 'an interrupted run removes nothing' same "$(sqlite3 stop.db "SELECT count(*) FROM files WHERE path = 'long/file1'")" 1
truncate -s 3 long/endless
ok 'the next run goes on: it reads what was left, and removes what is gone' eval '
    status 0 -o stop.db long && says "^hashed: 1 file," && says "removed: 1,"'

# Two different signals at once: the second one doesn't wait for the order that the first one began.
truncate -s 1T long/endless
start -o stop.db long
wait_for eval 'sqlite3 stop.db "SELECT state FROM runs" | grep -q running'
kill -STOP "$running"
kill -INT "$running"
kill -TERM "$running"
kill -CONT "$running"
finish
ok 'a second signal ends it' eval '[ $status -eq 143 ] || [ $status -eq 130 ]'
truncate -s 3 long/endless
ok 'and the next run goes on' eval 'status 0 -o stop.db long &&
    same "$(sqlite3 stop.db "SELECT count(*) FROM runs WHERE state = '"'running'"'")" 0'

# kill -9
ok 'after a kill -9 the run counts as abandoned' eval '
    truncate -s 1T long/endless && start -o killed.db long &&
    wait_for eval "sqlite3 killed.db \"SELECT count(*) FROM files\" | grep -q 300" &&
    kill -9 $running; finish; truncate -s 3 long/endless
    status 0 -o killed.db long && says "^hashed: 1 file," &&
    same "$(sqlite3 killed.db "SELECT state FROM runs" | tr "\n" " ")" "abandoned finished "'

# What a process leaves that dies while it sets the catalogue up: the first pages, and a journal that
# takes them back (magic, no records, nonce, 0 pages before, sectors of 512 bytes, pages of 4096).
cp killed.db half.db
{ printf '\331\325\005\371\040\241\143\327\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\0\0\0\020\0'
  head -c 484 /dev/zero; } >half.db-journal
ok 'a catalogue that was killed while it was set up is no catalogue to verify with' eval '
    status 3 -o half.db --verify long && warns "left half written"'
ok 'and is set up by the next run' eval 'status 0 -o half.db long && [ ! -e half.db-journal ] &&
    same "$(dump half.db)" "$(dump killed.db)"'

killed=0
for pause in 0.005 0.01 0.015 0.02 0.03 0.04 0.05 0.06 0.08 0.1 0.12 0.15; do
    start -o random.db tree
    sleep $pause
    kill -9 "$running" 2>/dev/null && killed=$((killed + 1))
    finish 2>/dev/null
    [ "$pause" != 0.06 ] || rm -f random.db*
done
echo "$killed killed" >&2
ok 'after kills at any moment the catalogue opens, and the run goes on' status 0 -o random.db tree
ok 'to the same catalogue as an undisturbed one' same "$(dump random.db)" "$(dump fresh.db)"
ok 'which is whole' same "$(sqlite3 random.db 'PRAGMA integrity_check')" ok

# The rows of what is gone go with the first whole run.
ok 'what vanished between is removed' eval 'status 0 tree && says "removed: 1," && same "$(dump)" "$(dump fresh.db)"'

done_testing
