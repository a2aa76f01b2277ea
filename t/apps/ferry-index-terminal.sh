# The progress line of ferry-index on a terminal: it fits, it isn't drawn too often, and it goes away.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

script -qec true /dev/null </dev/null >/dev/null 2>&1 || skip_all 'script is missing, or there is no terminal'

mkdir tree
truncate -s 800M tree/big
echo small >tree/small

# on_terminal WIDTH ARGS...: what the terminal got is in ./screen, without the last line's newline
on_terminal() {
    width=$1
    shift
    began=$(date +%s%N)
    TERM=xterm script -qec "stty cols $width rows 24; exec '$ferry_index' $*" /dev/null </dev/null >screen 2>&1
    ended=$(date +%s%N)
    tr '\r' '\n' <screen | sed 's/'"$(printf '\033')"'\[K//g' >lines
    cat lines >&2
}
drawn() { grep -E 'files?  .*B' lines; }
longest() { drawn | awk '{ if (length($0) > n) n = length($0) } END { print n + 0 }'; }

on_terminal 100 tree
ok 'a line is drawn' drawn
ok 'it has a bar, files, bytes, rate and the time that is left' grep -q -E \
    '^ *[0-9]+% \[=*> *\]  [0-9]+ files?  [0-9.]+ [KMG]?i?B.*  [0-9.]+ [KMG]iB/s  [0-9:]+ left$' lines
ok 'at most ten times a second' [ "$(drawn | wc -l)" -le $(((ended - began) / 100000000 + 1)) ]
ok 'it fits' [ "$(longest)" -lt 100 ]
ok 'it is cleared before the summary' grep -q "$(printf '\r\033')\[K2 files, 1 folder" screen
rm catalog.db
on_terminal 40 tree
ok 'it fits into a narrow terminal' eval '[ "$(longest)" -gt 0 ] && [ "$(longest)" -lt 40 ]'
rm catalog.db
on_terminal 12 tree
ok 'and into a very narrow one' [ "$(awk '{ if (/[0-9] files?|%/ && length($0) > n && !/[,;:]/) n = length($0) } END { print n + 0 }' lines)" -lt 12 ]
rm catalog.db
on_terminal 80 --quiet tree
ok '--quiet draws nothing' [ ! -s screen ]
rm catalog.db
on_terminal 80 --json tree
ok 'with --json the line goes to standard error' drawn
TERM=dumb script -qec "$ferry_index --verify tree" /dev/null </dev/null >screen 2>&1
ok 'a dumb terminal gets no control sequences' eval '! grep -q "$(printf "\033")" screen'
on_terminal 80 --verify tree
ok '--verify shows it, too' drawn

done_testing
