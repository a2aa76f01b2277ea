#!/bin/sh
# Each public header compiles alone, as C and as C++, without a warning.
set -u
. "$srcdir/t/support/tap.sh"

compile() { # compiler language-and-standard header
    echo "#include <$3>" | $1 -x $2 -Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only \
        -I"$srcdir/lib" -I"$srcdir/bridge/file" -I"$srcdir/bridge/sqlite" $SQLITE_CFLAGS -
}

for path in "$srcdir"/lib/ferry.h "$srcdir"/lib/ferry/*.h "$srcdir"/bridge/*/ferry-*.h; do
    [ -e "$path" ] || continue
    case $path in
    */lib/*) header=${path#"$srcdir"/lib/} ;;
    */ferry-sqlite.h)
        [ "$HAVE_SQLITE" = yes ] || continue
        header=ferry-sqlite.h ;;
    *) header=${path##*/} ;;
    esac
    ok "<$header> compiles alone as C11" compile "$CC" "c -std=c11" "$header"
    if command -v c++ >/dev/null; then
        ok "<$header> compiles alone as C++11" compile c++ "c++ -std=c++11" "$header"
    fi
done
done_testing
