# ferry-index catalogues a tree: what find and sha256sum say, and the second run reads only what
# changed.
. "$srcdir/t/support/tap.sh"
. "$(cd "$srcdir" && pwd)/t/apps/index-support.sh"

mkdir -p tree/a/deep tree/b tree/empty
n=0
while [ $n -lt 200 ]; do
    echo "content $n" >tree/a/file$n
    n=$((n + 1))
done
: >tree/b/nothing
head -c 3000000 /dev/zero >tree/b/zeros
ln tree/a/file1 tree/b/hard
ln -s ../a/file2 tree/b/symbolic
mkfifo tree/b/fifo
chmod 4711 tree/a/file3
touch -d '1969-07-20 20:17:40.123456789 UTC' tree/a/file4
newline='tree/a/two
lines'
echo newline >"$newline"
escape=$(printf 'tree/b/\033[31mred')
echo escape >"$escape"
latin=$(printf 'tree/b/caf\351')
echo latin >"$latin"
mkdir "$(printf 'tree/\377\376')"
echo below >"$(printf 'tree/\377\376/below')"

ok 'a first run succeeds' status 0 tree
ok 'it says what it found' says '^207 files, 6 folders, 1 symbolic link, 1 other; 2.9 MiB$'
ok 'and what it hashed' says '^hashed: 207 files, 2.9 MiB'
ok 'as many rows as find has entries' \
    same "$(rows 'SELECT count(*) FROM files')" "$(find tree -printf x | wc -c)"
as_find() { find tree -printf "$1\n" | sort; }
ok 'types are those of find' same "$(rows "SELECT type FROM files" | sort)" "$(as_find %y)"
ok 'sizes, modes and inodes are those of find' \
    same "$(rows "SELECT size || ' ' || printf('%o', mode & 4095) || ' ' || inode || ' ' || dev FROM files" | sort)" \
    "$(as_find '%s %m %i %D')"
ok 'the time is exact, before 1970, too' \
    same "$(rows "SELECT mtime_ns FROM files WHERE path = 'tree/a/file4'")" -14182939876543211
hashes() { rows "SELECT sha256 FROM files WHERE type = 'f'" | sort; }
sha256sums() { find tree -type f -exec sha256sum -z {} + | tr '\0\n' '\n?' | sed 's/ .*//' | grep -E '^[0-9a-f]{64}$' | sort; }
ok 'hashes are those of sha256sum' same "$(hashes)" "$(sha256sums)"
ok 'nothing else has a hash' same "$(rows "SELECT count(*) FROM files WHERE type <> 'f' AND sha256 NOT NULL")" 0
ok 'each hash is its own file'"'"'s' \
    same "$(rows "SELECT sha256 FROM files WHERE path = 'tree/a/file77'")" "$(sha256sum <tree/a/file77 | cut -d' ' -f1)"
ok 'a newline in a name is kept' same "$(rows "SELECT count(*) FROM files WHERE path = 'tree/a/two' || char(10) || 'lines'")" 1
ok 'a name that is not UTF-8 is a blob of its bytes' \
    same "$(rows "SELECT hex(path), typeof(path) FROM files WHERE path = x'747265652f622f636166e9'")" \
    '747265652F622F636166E9|blob'
ok 'and so is what is below such a folder' \
    same "$(rows "SELECT count(*) FROM files WHERE path = x'747265652ffffe2f62656c6f77'")" 1
ok 'all other paths are text' same "$(rows "SELECT count(*) FROM files WHERE typeof(path) = 'blob'")" 3
ok 'the run is recorded' same "$(rows 'SELECT id, root, state, files, errors FROM runs')" \
    "1|tree|finished|215|0"
bytes=$(find tree -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
ok 'with its bytes' same "$(rows 'SELECT bytes FROM runs')" "$bytes"
ok 'and its times' same \
    "$(rows "SELECT count(*) FROM runs WHERE started GLOB '????-??-??T??:??:??Z' AND finished >= started")" 1
ok 'the schema is the documented one' same "$(rows "SELECT name, type, pk FROM pragma_table_info('files')" | tr '\n' ' ')" \
    'path|TEXT|1 type|TEXT|0 size|INTEGER|0 mode|INTEGER|0 mtime_ns|INTEGER|0 dev|INTEGER|0 inode|INTEGER|0 sha256|TEXT|0 error|TEXT|0 run|INTEGER|0 '
ok 'the catalogue is one file' same "$(echo catalog.db*)" catalog.db

# The second run
before=$(dump)
ok 'a second run succeeds' status 0 tree
ok 'it reads nothing' says '^hashed: 0 files, 0 bytes'
ok 'it finds all unchanged' says '^added: 0, changed: 0, removed: 0, unchanged: 215, errors: 0$'
ok 'it writes no row' same "$(rows 'SELECT max(run) FROM files')" 1
ok 'and the catalogue is the same' same "$(dump)" "$before"

echo other >tree/a/file5
touch -d '2001-02-03 04:05:06 UTC' tree/a/file6
chmod 600 tree/a/file7
cp -p tree/a/file8 replaced && mv replaced tree/a/file8
rm tree/a/file9 "$newline" "$latin"
rm -r "$(printf 'tree/\377\376')"
mkdir tree/new
echo new >tree/new/file
rmdir tree/empty
echo now a file >tree/empty
ok 'a third run succeeds' status 0 --json tree
ok 'it reads what changed: size, time, inode, new' same "$(member .hashed)" 5
ok 'it counts what was added' same "$(member .added)" 2
ok 'it counts what was removed' same "$(member .removed)" 5
ok 'the catalogue is as find sees the tree' \
    same "$(rows 'SELECT path FROM files' | sort)" "$(find tree | sort)"
ok 'and as sha256sum' same "$(hashes)" "$(sha256sums)"
ok 'a mode that changed is taken over, and the hash kept' \
    same "$(rows "SELECT printf('%o', mode), sha256 FROM files WHERE path = 'tree/a/file7'")" \
    "100600|$(sha256sum <tree/a/file7 | cut -d' ' -f1)"
ok 'a folder that became a file is one' same "$(rows "SELECT type FROM files WHERE path = 'tree/empty'")" f
fresh=$(dump)
rm catalog.db
index tree
ok 'a fresh catalogue is the same' same "$(dump)" "$fresh"
ok 'a tree in another order of the walk is found as well' eval '
    mkdir moved && mv tree/a/file1?? moved/ && mv moved/* tree/a/ && status 0 tree && says "^hashed: 0 files"'

# Options
ok '--no-hash reads nothing' status 0 -o quick.db --no-hash tree
ok 'and has no hashes' same "$(sqlite3 quick.db 'SELECT count(*), count(sha256) FROM files')" "$(find tree -printf x | wc -c)|0"
ok 'a later run adds them' eval 'status 0 -o quick.db tree && same "$(dump quick.db)" "$(dump)"'
touch tree/a/file10
ok '--no-hash keeps the hashes that are still right, and no others' eval \
    'status 0 -o quick.db --no-hash tree &&
    same "$(sqlite3 quick.db "SELECT path FROM files WHERE type = '"'f'"' AND sha256 IS NULL")" tree/a/file10'
ok '--quiet is silent' eval 'status 0 --quiet tree && [ ! -s out ] && [ ! -s err ]'
ok 'without a terminal nothing is drawn' eval 'status 0 tree && ! grep -q "$(printf "\r")" err'
ok '-j takes other numbers' eval 'rm catalog.db && status 0 -j 7 tree && same "$(hashes)" "$(sha256sums)"'
ok '--json is one object with what there is to know' eval 'status 0 --json tree &&
    same "$(member .state)" finished && same "$(member .files)" "$(find tree -type f -printf x | wc -c)" &&
    same "$(member .errors)" 0 && same "$(member ".roots[0].root")" tree'
ok '--help names every option' eval 'status 0 --help &&
    for o in --output --jobs --no-hash --verify --duplicates --json --quiet --one-file-system --version; do
        says "  $o" || says ", $o" || exit 1; done'
ok '--version' eval 'status 0 --version && says "^ferry-index 0\."'

# Folders
mkdir one two one/inner
echo 1 >one/1; echo 2 >two/2; echo 3 >one/inner/3
ok 'several folders, each a run' eval 'status 0 -o many.db one two/ &&
    same "$(sqlite3 many.db "SELECT group_concat(path, '"' '"') FROM (SELECT path FROM files ORDER BY path)")" \
        "one one/1 one/inner one/inner/3 two two/2" &&
    same "$(sqlite3 many.db "SELECT root FROM runs" | tr "\n" " ")" "one two "'
rm -r one/inner
ok 'what vanished is removed from the folder that was walked' eval 'rm two/2; status 0 -o many.db one &&
    same "$(sqlite3 many.db "SELECT count(*) FROM files WHERE path GLOB '"'one*'"'")" 2 &&
    same "$(sqlite3 many.db "SELECT count(*) FROM files WHERE path = '"'two/2'"'")" 1'
ok 'a folder whose name begins with another one'"'"'s is left alone' eval 'mkdir one.b && echo >one.b/x &&
    status 0 -o many.db one.b && status 0 -o many.db one &&
    same "$(sqlite3 many.db "SELECT count(*) FROM files WHERE path = '"'one.b/x'"'")" 1'
mkdir one/inner && echo 3 >one/inner/3
ok 'a folder inside another one comes once' eval 'status 0 -o many.db --json one/inner one &&
    same "$(member .entries)" 4 && same "$(member .hashed)" 1 &&
    status 0 -o many.db --json one one/inner && same "$(member .unchanged)" 4 && same "$(member .removed)" 0'
ok 'the same folder twice is once' eval 'status 0 -o many.db --json one one/ && same "$(member .entries)" 4'
ln -s one link
ok 'a folder given as a symbolic link is followed' eval 'status 0 -o link.db link &&
    same "$(sqlite3 link.db "SELECT type FROM files WHERE path = '"'link'"'")" d &&
    same "$(sqlite3 link.db "SELECT length(sha256) FROM files WHERE path = '"'link/1'"'")" 64'
ok 'a single file is a tree, too' eval 'status 0 -o link.db one/1 &&
    same "$(sqlite3 link.db "SELECT length(sha256) FROM files WHERE path = '"'one/1'"'")" 64'
ok 'the catalogue inside of the tree is no part of it' eval 'status 0 -o one/own.db one &&
    same "$(sqlite3 one/own.db "SELECT count(*) FROM files WHERE path GLOB '"'one/own.db*'"'")" 0 &&
    status 0 -o one/own.db one && says "removed: 0"'
ok 'paths are as they are given: in another folder they are another tree' eval 'mkdir copy && cp -a one copy/ &&
    rm one/own.db copy/one/own.db &&
    (cd one && "$ferry_index" --quiet -o ../dot.db .) && (cd copy/one && "$ferry_index" --verify -o ../../dot.db . >&2)'

# A path that is longer than the system takes in one call (4,096 bytes)
mkdir deep
name=$(printf '%0200d' 0)
ok 'paths of any length' eval '(cd deep && n=0 && while [ $n -lt 30 ]; do
        mkdir $name && cd -P ./$name || exit 1; n=$((n + 1)); done && echo bottom >bottom) 2>/dev/null &&
    status 0 -o deep.db deep &&
    same "$(sqlite3 deep.db "SELECT max(length(path)), count(*), count(sha256), count(error) FROM files")" "6041|32|1|0" &&
    status 0 -o deep.db deep && says "^hashed: 0 files" && status 0 -o deep.db --verify deep'

done_testing
