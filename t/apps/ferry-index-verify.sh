# ferry-index --verify: what was added, removed, changed, corrupted; and neither side is changed.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

mkdir -p tree/sub tree/gone
for name in same touched grown mode rotten removed linked; do
    echo "this is $name" >tree/$name
done
echo lost >tree/gone/inner
ln -s same tree/symlink
strange=$(printf 'tree/sub/odd \351\nname')
echo strange >"$strange"
index tree
checksum=$(sha256sum catalog.db)

ok 'an unchanged tree has no differences' status 0 --verify tree
ok 'every file was read' says '^hashed: 9 files'

touch tree/touched
echo more >>tree/grown
chmod 604 tree/mode
touch -r tree/rotten stamp
echo 'THIS is rotten' >tree/rotten
touch -r stamp tree/rotten
rm -r tree/removed tree/gone
rm tree/linked && ln -s same tree/linked
echo new >tree/added
rm "$strange"
ok 'differences are status 1' status 1 --verify tree
line() { grep -q -x -e "$1" out; }
ok 'added' line 'added       tree/added'
ok 'removed' line 'removed     tree/removed'
ok 'removed with all that was below' eval 'line "removed     tree/gone" && line "removed     tree/gone/inner"'
ok 'a name that no terminal should get is escaped' line 'removed     tree/sub/odd \\xe9\\nname'
ok 'changed: time alone' line 'changed     tree/touched  (mtime; same content)'
ok 'changed: size' line 'changed     tree/grown  (size 14 -> 19, mtime)'
ok 'changed: mode' line 'changed     tree/mode  (mode; same content)'
ok 'changed: type' line 'changed     tree/linked  (type)'
ok 'corrupted: other content at the same size and time' line 'corrupted   tree/rotten'
ok 'nothing else, and no folder' same "$(grep -c -E '^(added|removed|changed|corrupted|unreadable)  ' out)" 10
ok 'the counts' says '^added: 1, removed: 4, changed: 4, corrupted: 1, unreadable: 0, the same: 4$'
ok 'the catalogue is untouched' same "$(sha256sum catalog.db)" "$checksum"
ok 'no run was recorded' same "$(rows 'SELECT count(*) FROM runs')" 1

ok '--json' status 1 --verify --json tree
ok '--json has the counts' same "$(member .corrupted)$(member .removed)$(member .status)" 141
if command -v jq >/dev/null; then
    ok '--json has the list' same \
        "$(jq -r '.differences[] | select(.kind == "changed") | .path + " " + (.what | join(","))' out | sort | tr '\n' ' ')" \
        'tree/grown size,mtime tree/linked type tree/mode mode tree/touched mtime '
    ok '--json has the exact bytes of a name that is not UTF-8' same \
        "$(jq -r '.differences[] | select(.path_hex) | .path_hex' out)" 747265652f7375622f6f646420e90a6e616d65
fi
ok '--quiet still lists' eval 'status 1 --quiet --verify tree && same "$(wc -l <out)" 10'
ok '--no-hash sees all but the corruption' eval 'status 1 --no-hash --verify tree &&
    says "corrupted: 0" && says "^hashed: 0 files"'

index tree
ok 'after a run only the corruption is left: the file still says that it is unchanged' eval '
    status 1 --verify tree && says "changed: 0, corrupted: 1"'
touch tree/rotten
index tree
ok 'a new time makes it right' status 0 --verify tree
index -o quick.db --no-hash tree
ok 'without hashes in the catalogue it says so' eval 'status 0 -o quick.db --verify tree &&
    says "without a hash in the catalogue to compare their content with: 6$"'
ok 'a missing folder is an error, not a lot of removals' eval 'status 3 --verify nowhere && ! says removed'
ok 'a copy on another inode is as good' eval 'cp -a tree copy && mv tree old && mv copy tree &&
    status 0 --verify tree'

if [ -n "$plain" ]; then
    as=plainly
    mkdir locked && cp catalog.db locked/ && chmod 555 locked && chmod 444 locked/catalog.db
    before=$(ls -la locked)
    ok 'a catalogue that may not be written to can be read' status 0 -o locked/catalog.db --verify tree
    ok 'and nothing is left beside it' same "$(ls -la locked)" "$before"
    chmod 000 tree/same
    ok 'what cannot be read is said, with status 1' eval 'status 1 -o locked/catalog.db --verify tree &&
        line "unreadable  tree/same: Permission denied"'
    chmod 644 tree/same
fi

done_testing
