#!/bin/sh
# Every example runs to its end and says what its first comment promises.
. "${srcdir:-.}/t/support/tap.sh"

out=$(mktemp) || exit 99
trap 'rm -f "$out"' EXIT

# says NAME PATTERN: the example ends well, soon, and a line of its output matches.
says() {
    timeout -s KILL 60 "$top_builddir/apps/examples/$1" >"$out" 2>&1 || { cat "$out" >&2; return 1; }
    grep -q "$2" "$out" || { cat "$out" >&2; return 1; }
}

ok "callback: results come back to a plain libevent program" says callback '^12 squared is 144$'
ok "callback: an error comes back as well" says callback '^-4: no result$'
ok "group: the error names who failed" says group '^mirror c failed: mirror c.example refuses$'
ok "group: the others ended before the group did" says group '^3 others stopped and cleaned up$'
ok "hello: three calls under one deadline" says hello 'the answer is 42$'
ok "map: results in order, up to the error at its place" \
    says map '^89 squares in order, their sum is 238965, then: 90 has no square today$'
ok "map: no more items than it is ahead" says map 'never more than [0-9]* at a time$'
ok "pool: a broken connection is replaced" says pool '^8 tasks shared [34] connections, one of which broke$'
ok "pool: a time-out says who has them all" says pool "^pool 'db': none came free within 10 ms: of at most 3 there are 3 lent"
ok "queue: every line came through" says queue '^[1-9][0-9]* lines, [1-9][0-9]* bytes'
if [ -x "$top_builddir/apps/examples/sqlite" ]; then
    ok "sqlite: rows come as a stream" says sqlite '^town 2: Bergen, 25.0 m$'
    ok "sqlite: an error says what and where" says sqlite '^again: UNIQUE constraint failed: town.name'
    ok "sqlite: a deadline ends an endless statement" says sqlite '^an endless one: Connection timed out$'
fi
ok "stream: a job's lines come to a task, as many as it wants" \
    says stream '^/etc/passwd: [1-9][0-9]* lines; of them seen again: 1$'
ok "stream: an error comes as well" says stream "^cannot open '/nowhere/at/all': No such file"
ok "threads: tasks and threads share a mutex" says threads '^balance: 4000 of 4000$'
ok "timeout: a polite call stops" says timeout '^a polite call: Connection timed out$'
ok "timeout: a deaf one keeps its result" says timeout '^a deaf call, waited for all the same: 7$'
ok "timeout: or is given up" says timeout '^a deaf call, given up: Connection timed out$'
done_testing
