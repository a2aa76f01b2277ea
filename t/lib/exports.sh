#!/bin/sh
# Each library exports what its map names, no more and no less, and the map names what the public
# headers declare.
set -u
. "$srcdir/t/support/tap.sh"

command -v "${NM%% *}" >/dev/null || skip_all "there is no nm"

scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT

names_in_map() {
    sed -n '/global:/,/local:/s/^ *\([A-Za-z_][A-Za-z0-9_]*\);.*$/\1/p' "$1" | sort
}

names_in_library() {
    $NM -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort
}

# A declaration may span lines, so they are joined up to the semicolon first.
names_in_headers() {
    cat "$@" | grep -v '^#' | tr '\n' ' ' | tr ';{}' '\n\n\n' |
        sed -n 's/^.*FERRY_API[^(]*[ *]\(ferry_[a-z0-9_]*\)(.*$/\1/p' | sort
}

same() {
    diff "$1" "$2"
}

check() { # library map header...
    library=$1 map=$2
    shift 2
    file=$top_builddir/.libs/$library.so
    [ -e "$file" ] || return 0
    names_in_map "$srcdir/$map" >"$scratch/map"
    names_in_library "$file" >"$scratch/library"
    names_in_headers "$@" >"$scratch/headers"
    ok "$library exports what $map names" same "$scratch/map" "$scratch/library"
    ok "$map names what the headers declare" same "$scratch/map" "$scratch/headers"
}

check libferry lib/libferry.map "$srcdir"/lib/ferry.h "$srcdir"/lib/ferry/*.h
check libferry-file bridge/file/libferry-file.map "$srcdir"/bridge/file/ferry-file.h
check libferry-sqlite bridge/sqlite/libferry-sqlite.map "$srcdir"/bridge/sqlite/ferry-sqlite.h
[ "$tap_count" -gt 0 ] || skip_all "no shared library was built"
done_testing
