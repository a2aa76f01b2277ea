# ferry-index --duplicates: groups of the same content, and what they waste.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

mkdir -p tree/a tree/b other
head -c 1000 /dev/zero >tree/a/big
cp tree/a/big tree/b/big
cp tree/a/big other/big
echo small >tree/a/small
cp tree/a/small tree/b/small
cp tree/a/small tree/b/small2
echo alone >tree/a/alone
ln tree/a/alone tree/b/alone-link
ln tree/a/small tree/b/small-link
: >tree/a/empty
: >tree/b/empty
index tree other

ok 'without a folder it lists what the catalogue knows' status 0 --duplicates
cp out text
ok 'those that waste most come first' same "$(grep -n copies text | sed 's/  (.*//')" \
    "1:3 copies of 1000 bytes, 2.0 KiB wasted
6:3 copies of 6 bytes, 12 bytes wasted"
ok 'the files of a group stand below it' same "$(sed -n '2,4p' text | sort | tr -d '\n')" \
    '    other/big    tree/a/big    tree/b/big'
ok 'a hard link is no copy of its own' eval 'same "$(sed -n "7,10p" text | wc -l)" 4 &&
    same "$(grep -c "hard link to the one before" text)" 1'
ok 'hard links alone are no duplicates, nor are empty files' eval '! grep -q -e alone -e empty text'
ok 'the sum' same "$(tail -n 1 text)" '2 groups of the same content, 7 files, 2.0 KiB wasted'
ok 'with a folder: what is below it' eval 'status 0 --duplicates tree && ! says other/ &&
    says "^2 copies of 1000 bytes, 1000 bytes wasted"'
cp tree/a/big tree/b/late
ok 'and the catalogue is brought up to date before' eval 'status 0 --duplicates tree && says tree/b/late'
ok '--json' status 0 --duplicates --json
ok '--json has the sums' same "$(member .groups) $(member .duplicate_files) $(member .wasted_bytes)" '2 8 3012'
if command -v jq >/dev/null; then
    ok '--json has the groups' same "$(jq -c '[.duplicates[] | [.size, .copies, .wasted_bytes, (.files | length)]]' out)" \
        '[[1000,4,3000,4],[6,3,12,4]]'
    ok '--json marks hard links' same "$(jq '[.duplicates[].files[] | select(.hard_link)] | length' out)" 1
fi
rm -r tree/b
ok 'no duplicates are said, too' eval 'status 0 -o fresh.db --duplicates tree && says "^No duplicates.$"'

done_testing
