# ferry-index where something is wrong: entries that can't be read, catalogues that are none, full
# disks, wrong usage.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

clean_up() {
    [ -z "$holder" ] || kill -9 "$holder" 2>/dev/null
    umount "$scratch/small-disk" 2>/dev/null
    umount "$scratch/mounts/inside" 2>/dev/null
}
holder=

mkdir tree
echo 1 >tree/one
echo 2 >tree/two

# Usage
ok 'no folder is wrong usage' status 2
ok 'an unknown option, too' eval 'status 2 --what tree && warns "ferry-index --help"'
ok 'a wrong number of jobs, too' eval 'status 2 -j 0 tree && status 2 -j 257 tree && status 2 -j x tree'
ok 'an empty name, too' eval 'status 2 "" && status 2 -o "" tree'
ok '--verify and --duplicates together, too' status 2 --verify --duplicates tree
ok '--verify without a folder, too' status 2 --verify
ok 'no catalogue was made by all that' same "$(echo catalog*)" 'catalog*'

# Folders and catalogues that aren't there
ok 'a missing folder is fatal, and makes no catalogue' eval '
    status 3 nowhere && warns "cannot find nowhere: No such file or directory" && [ ! -e catalog.db ]'
ok 'the others are catalogued all the same' eval 'status 3 nowhere tree &&
    same "$(rows "SELECT count(*) FROM files")" 3'
ok '--json says so, too' eval 'status 3 --json nowhere tree && same "$(member .state)" incomplete &&
    same "$(member ".roots[0].state")" missing'
mv tree away
ok 'a folder that is gone loses no rows' eval 'status 3 tree && same "$(rows "SELECT count(*) FROM files")" 3'
mv away tree
ok 'no catalogue to verify with' eval 'status 3 -o none.db --verify tree && warns "there is no catalogue" && [ ! -e none.db ]'
ok 'no catalogue for duplicates' status 3 -o none.db --duplicates
ok 'no folder for the catalogue' eval 'status 3 -o none/none.db tree && warns "cannot open the catalogue .none/none.db.: No such file"'

# What is no catalogue
echo 'a text that is longer than the header of a database, so that it is looked at in full, and then some' >text
echo short >short
sqlite3 foreign.db 'CREATE TABLE t(x); PRAGMA application_id=77'
sqlite3 wal.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(x)' >/dev/null
sqlite3 newer.db 'PRAGMA application_id=1181312120; PRAGMA user_version=99; CREATE TABLE t(x)'
mkfifo fifo
for file in text short foreign.db wal.db newer.db; do
    before=$(sha256sum $file)
    ok "$file is refused" eval 'status 3 -o $file tree && status 3 -o $file --verify tree'
    ok "$file is left alone" same "$(sha256sum $file) $(echo $file?*)" "$before $file?*"
done
ok 'what is refused says what to do' eval 'status 3 -o foreign.db tree &&
    warns "is an SQLite database but not a catalogue.*name another file with -o"'
ok 'a newer schema says so' eval 'status 3 -o newer.db tree && warns "made by another version"'
ok 'neither a folder nor a pipe is a catalogue' eval 'status 3 -o tree tree && status 3 -o fifo tree'
ok 'an empty file becomes one' eval ': >empty && status 0 -o empty tree'
damaged() {
    index -o damaged.db tree
    dd if=/dev/zero of=damaged.db bs=4096 seek=1 count=3 conv=notrunc 2>/dev/null
    status 3 -o damaged.db tree && warns 'damaged; move it away'
}
ok 'a damaged one is said to be' damaged
ok '--json says why' eval 'status 3 --json -o foreign.db tree && same "$(member .state)" failed &&
    member .error | grep -q "not a catalogue"'

# In use
truncate -s 1T endless
"$ferry_index" -o busy.db --quiet endless 2>/dev/null &
holder=$!
wait_for eval 'sqlite3 busy.db "SELECT state FROM runs" | grep -q running'
ok 'a catalogue in use by a run is refused' status 3 -o busy.db tree
ok 'and it says by whom, since when' eval 'warns "in use by another ferry-index.* since 2...-..-..T" &&
    { [ ! -r /proc/locks ] || ! grep -q FLOCK /proc/locks || warns "process [0-9]"; }'
ok 'for a verification, too' status 3 -o busy.db --verify tree
kill -9 "$holder"
wait "$holder" 2>/dev/null
holder=
rm endless
ok 'the lock dies with the process' status 0 -o busy.db tree
ok 'whose run is recorded as abandoned' same "$(sqlite3 busy.db "SELECT state FROM runs" | tr '\n' ' ')" 'abandoned finished '

# Entries that can't be read
if [ -n "$plain" ]; then
    as=plainly
    mkdir -p secret/closed secret/open secret/shut
    echo hidden >secret/closed/hidden
    echo x >secret/open/fine
    echo x >secret/shut/unknown
    mkdir out.d && chmod 777 out.d
    # All but one file is known at first.
    as=
    index -o out.d/c.db secret
    chmod 777 out.d/c.db
    as=plainly
    echo x >secret/open/unreadable
    chmod 000 secret/closed secret/open/unreadable
    chmod 444 secret/shut
    ok 'what cannot be read is status 1' status 1 -o out.d/c.db secret
    ok 'it is said' eval 'warns "cannot read secret/closed: Permission denied" &&
        warns "cannot read secret/open/unreadable: Permission denied"'
    rows_of() { sqlite3 out.d/c.db "SELECT type, error, sha256 FROM files WHERE path = '$1'"; }
    ok 'a file is a row with its error' same "$(rows_of secret/open/unreadable)" 'f|Permission denied|'
    ok 'a folder, too' same "$(rows_of secret/closed)" 'd|Permission denied|'
    ok 'an entry that cannot even be looked at, too' same "$(rows_of secret/shut/unknown)" 'f|Permission denied|'
    ok 'what is below a closed folder is kept' same \
        "$(sqlite3 out.d/c.db "SELECT length(sha256) FROM files WHERE path = 'secret/closed/hidden'")" 64
    ok 'the run counts them' same "$(sqlite3 out.d/c.db 'SELECT errors FROM runs ORDER BY id DESC LIMIT 1')" 3
    ok 'the same again is no change' eval 'status 1 -o out.d/c.db secret && says "changed: 0,"'
    chmod 755 secret/closed secret/shut
    chmod 644 secret/open/unreadable
    ok 'what can be read again is read again' eval 'status 0 -o out.d/c.db secret &&
        same "$(sqlite3 out.d/c.db "SELECT count(*) FROM files WHERE error NOT NULL")" 0 &&
        same "$(rows_of secret/open/unreadable)" "f||$(echo x | sha256sum | cut -d" " -f1)"'
    chmod 000 secret
    ok 'a FOLDER that cannot be read is such a row, and loses nothing' eval 'status 1 -o out.d/c.db secret &&
        same "$(rows_of secret)" "d|Permission denied|" &&
        same "$(sqlite3 out.d/c.db "SELECT count(*) FROM files")" 8'
    chmod 755 secret
    chmod 555 out.d && chmod 444 out.d/c.db
    ok 'a catalogue that may not be written to is fatal' eval 'status 3 -o out.d/c.db secret && warns "Permission denied"'
    chmod 755 out.d
    many=0
    mkdir many
    while [ $many -lt 30 ]; do
        many=$((many + 1))
        : >many/$many
    done
    chmod 000 many/*
    mkdir many.d && chmod 777 many.d
    ok 'a lot of errors is not said one by one' eval 'status 1 -o many.d/c.db many &&
        same "$(grep -c "cannot read" err)" 20 && warns "there are more"'
    as=
fi

# A file that changes while it is read
truncate -s 1G tree/moving
touch stop-not
( n=0; while [ -e stop-not ]; do n=$((n + 1)); touch -d "@$n" tree/moving; done ) &
ok 'a file that changes while it is read is a row with an error' status 1 tree
rm stop-not
wait
ok 'it has no hash' same "$(rows "SELECT sha256, error FROM files WHERE path = 'tree/moving'")" '|it changed while it was being read'
truncate -s 5 tree/moving
ok 'the next run reads it' eval 'status 0 tree && same "$(rows "SELECT count(*) FROM files WHERE error NOT NULL")" 0'

# Outputs that can't be written
if [ -w /dev/full ]; then
    full() { "$ferry_index" "$@" >/dev/full 2>err; [ $? -eq 3 ] && warns 'cannot write to standard output: No space left'; }
    ok 'a full output is fatal' full tree
    ok 'for --json' full --json tree
    ok 'for --verify' full --verify tree
    ok 'for --help' full --help
    cp tree/one tree/again
    index tree
    ok 'for --duplicates' full --duplicates
fi
mkfifo unread
closed() { # 4 is a pipe whose reader is gone before the program starts
    exec 3<>unread 4>unread 3<&-
    status=0
    "$ferry_index" "$@" >&4 2>err || status=$?
    exec 4>&-
    [ "$status" -eq 3 ] && warns 'cannot write to standard output: Broken pipe'
}
ok 'an output that nobody reads is fatal, and no silent death' closed --json tree

# Other file systems, and a full one
mkdir -p mounts/inside small-disk
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=64k tmpfs mounts/inside 2>/dev/null; then
    echo on another disk >mounts/inside/file
    ok 'other file systems are entered' eval 'status 0 mounts && same "$(rows "SELECT count(*) FROM files WHERE path = '"'mounts/inside/file'"'")" 1'
    ok '--one-file-system does not enter them, but has the folder' eval 'status 0 -o x.db --one-file-system mounts &&
        same "$(sqlite3 x.db "SELECT group_concat(path) FROM (SELECT path FROM files ORDER BY path)")" mounts,mounts/inside'
    ok 'and what is known of them is kept' eval 'status 0 --one-file-system mounts &&
        same "$(rows "SELECT count(*) FROM files WHERE path = '"'mounts/inside/file'"'")" 1'
    mount -t tmpfs -o size=256k tmpfs small-disk
    mkdir lots
    n=0
    while [ $n -lt 2500 ]; do
        n=$((n + 1))
        echo $n >lots/a-file-with-a-rather-long-name-$n
    done
    ok 'a full disk is fatal, and says what to do' eval 'status 3 -o small-disk/c.db lots && warns "full.*make room"'
    mount -o remount,size=16m small-disk
    ok 'with more room the next run goes on' status 0 -o small-disk/c.db lots
    ok 'to the whole' same "$(dump small-disk/c.db)" "$(index -o whole.db lots 2>/dev/null; dump whole.db)"
fi

done_testing
