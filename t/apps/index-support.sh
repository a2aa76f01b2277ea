# What the tests of ferry-index share: source it after tap.sh. It makes a scratch folder, goes there,
# and takes it away at the end.
#     index ARGS...        runs ferry-index, after the words in $as; its output is in ./out and ./err,
#                          its status in $status
#     status N ARGS...     the same, and succeeds if the status is N
#     plainly WORDS...     runs them without the rights of root; plain is empty where that can't be done
#     rows SQL             what the catalogue says, with | between the columns
#     wait_for COMMAND...  waits until the command succeeds, for at most a minute

ferry_index=$(cd "$top_builddir" && pwd)/ferry-index
[ -x "$ferry_index" ] || skip_all 'ferry-index was not built'
command -v sqlite3 >/dev/null || skip_all 'sqlite3 is missing'

scratch=$(mktemp -d "${TMPDIR:-/tmp}/ferry-index.XXXXXX") || exit 1
chmod 755 "$scratch"
clean_up() { :; }
trap 'clean_up; cd /; chmod -R u+rwX "$scratch" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch" || exit 1

LC_ALL=C
export LC_ALL
unset TERM
as=

index() {
    status=0
    $as "$ferry_index" "$@" >out 2>err || status=$?
    cat out err >&2
}

status() {
    wanted=$1
    shift
    index "$@"
    echo "status $status" >&2
    [ "$status" -eq "$wanted" ]
}

plainly() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    else
        setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    fi
}
plain=
plainly "$ferry_index" --version >/dev/null 2>&1 && plain=yes

rows() { sqlite3 -batch catalog.db "$1"; }

# The catalogue's files without what differs from run to run.
dump() {
    sqlite3 -batch "${1-catalog.db}" "SELECT hex(path), typeof(path), type, size, mode, mtime_ns, dev,
        inode, sha256, error FROM files WHERE type <> 'd' ORDER BY path;
        SELECT hex(path), type, mode, error FROM files WHERE type = 'd' ORDER BY path"
}

says() { grep -q -e "$1" out; }
warns() { grep -q -e "$1" err; }
same() { [ "$1" = "$2" ] || { printf '%s\n' "got:    $1" "wanted: $2" >&2; return 1; }; }

wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || return 1
        sleep 0.1
    done
}

# A member of the JSON object in ./out; the whole output must be one object.
member() {
    sqlite3 :memory: "SELECT json_extract(CAST(readfile('out') AS TEXT), '\$$1')"
}
