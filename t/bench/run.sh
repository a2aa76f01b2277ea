#!/bin/sh
# Builds the peers' programs with what is installed, runs subjects one after the other, and states
# each figure against its target. Called by make bench, in the build folder:
#   run.sh --source=FOLDER --build=FOLDER [--quick] -- OPTIONS -- SUBJECT...
# The results stay in FOLDER/results, as JSON. The end is 1 when a check failed; a target that isn't
# met is no error.
set -u
source= build= options=
while [ $# -gt 0 ]; do
    case $1 in
    --source=*) source=${1#*=} ;;
    --build=*) build=${1#*=} ;;
    --quick) options=--quick ;;
    --) shift; break ;;
    *) echo "run.sh: what is $1?" >&2; exit 2 ;;
    esac
    shift
done
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options="$options $1"
    shift
done
shift
results=$build/results
mkdir -p "$results" && rm -f "$results"/*.json || exit 1

# ---- Peers of other languages: each is left out where it can't be built; the programs then say so.

# A program is up to date when it is newer than its source; a failure to build isn't tried again.
build_peer() { # program source command...
    program=$build/$1 from=$source/$2
    shift 2
    [ -n "$(find "$program" -newer "$from" 2>/dev/null)" ] && return
    rm -f "$program"
    "$@" >"$results/build.log" 2>&1 || rm -f "$program"
}
build_tokio() { # cargo
    TOKIO_VERSION=$(ls -d $crates/tokio-[0-9]* | sed 's/.*tokio-//;q')
    export TOKIO_VERSION
    (cd "$build/tokio" && "$1" build --release --offline \
        --config 'source.crates-io.replace-with="packaged"' \
        --config "source.packaged.directory=\"$crates\"") &&
        cp "$build/tokio/target/release/peers-tokio" "$build/peers-tokio"
}
CXX=${CXX:-$(command -v g++ || command -v clang++ || :)}
[ -n "$CXX" ] && build_peer peers-asio peers_asio.cpp \
    "$CXX" -std=c++17 -O2 -g -pthread -o "$build/peers-asio" "$source/peers_asio.cpp"
command -v go >/dev/null && build_peer peers-go peers.go \
    env GO111MODULE=off GOCACHE="$PWD/$results/go-cache" \
    go build -o "$build/peers-go" "$source/peers.go"
# Tokio as a distribution packages it: cargo finds the sources of crates in a folder, and asks no
# registry.
crates=/usr/share/cargo/registry
for cargo in /usr/bin/cargo cargo; do
    command -v $cargo >/dev/null && ls -d $crates/tokio-[0-9]* >/dev/null 2>&1 || continue
    mkdir -p "$build/tokio/src"
    cmp -s "$source/peers_tokio.rs" "$build/tokio/src/main.rs" ||
        cp "$source/peers_tokio.rs" "$build/tokio/src/main.rs"
    printf '%s\n' '[package]' 'name = "peers-tokio"' 'version = "0.1.0"' 'edition = "2021"' \
        '[dependencies]' 'libc = "0.2"' 'tokio = { version = "1", features = ["rt"] }' \
        '[profile.release]' 'debug = false' >"$build/tokio/Cargo.toml"
    build_peer peers-tokio peers_tokio.rs build_tokio $cargo
    break
done
# A python3 that has uvloop, where there is one.
for PYTHON in "${PYTHON:-python3}" /usr/bin/python3; do
    "$PYTHON" -c 'import uvloop' 2>/dev/null && break
done
command -v "$PYTHON" >/dev/null || PYTHON=python3
export PYTHON
cp "$source/peers.py" "$build/peers-python"

# ---- Subjects

: >"$results/targets"
failed=
for subject; do
    echo "==== $subject"
    "$build/$subject" --programs="$build" --targets="$results/targets" \
        --json="$results/$subject.json" $options || failed="$failed $subject"
    echo
done

# ---- Targets

awk -F '\t' '
    BEGIN { printf "%-12s  %9s  %-8s  %-6s  %s\n", "target", "figure", "wanted", "unit", "what" }
    { printf "%-12s  %9s  %-8s  %-6s  %s\n", $1, $3, $4, $5, $6; n[$1]++ }
    END { printf "%d met, %d not met, %d not measured\n", \
        n["met"], n["not met"], n["not measured"] }
' "$results/targets"
if [ -n "$failed" ]; then
    echo "checks failed:$failed" >&2
    exit 1
fi
