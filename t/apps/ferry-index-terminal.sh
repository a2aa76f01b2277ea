# The progress line of ferry-index on a terminal: it fits, it isn't drawn too often, and it goes away.
. "$srcdir/t/support/tap.sh"
on_terminal=$(cd "$top_builddir" && pwd)/t/support/on-terminal
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

[ -x "$on_terminal" ] || skip_all 't/support/on-terminal was not built (make check builds it)'
"$on_terminal" 80 /bin/sh -c 'exec test -t 1' || skip_all 'there is no terminal'

terminal=xterm
mkdir tree
truncate -s 800M tree/big
echo small >tree/small

# on_terminal WIDTH ARGS...: what the terminal got is in ./screen, the lines as they were drawn in ./lines
on_terminal() {
    width=$1
    shift
    began=$(date +%s%N)
    status=0
    TERM=$terminal "$on_terminal" "$width" "$ferry_index" "$@" >screen 2>&1 || status=$?
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
ok '--quiet draws nothing' eval '[ "$status" -eq 0 ] && [ ! -s screen ]'
rm catalog.db
on_terminal 80 --json tree
ok 'with --json the line goes to standard error' drawn
terminal=dumb
on_terminal 80 --verify tree
ok 'a dumb terminal gets no control sequences' \
    eval 'grep -q "the same: 3" screen && ! grep -q "$(printf "\033")" screen'
terminal=xterm
on_terminal 80 --verify tree
ok '--verify shows it, too' drawn

done_testing
