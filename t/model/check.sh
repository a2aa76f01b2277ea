# One model of this folder, by spin: check.sh NAME.pml (make check-model runs all; README.md says what they are).
#
# The model itself, and each of its variants, must hold in every order of steps. Each control, the model
# with something taken out (-D), must be found faulty: one that is "asleep" by an end that isn't one, with
# somebody waiting for ever, an "assertion" by one. What spin makes goes into a folder that is removed.
set -u
model=$1
name=$(basename "$model" .pml)

if ! command -v spin >/dev/null; then
    echo "1..0 # SKIP spin isn't installed (Debian package: spin)"
    exit 0
fi

here=$(cd "$(dirname "$model")" && pwd) || exit
folder=$(mktemp -d "$PWD/pan.$name.XXXXXX") || exit
trap 'cd / && rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
cd "$folder" || exit

count=0
failed=0
report() { # ok|"not ok" text
    count=$((count + 1))
    [ "$1" = ok ] || failed=$((failed + 1))
    echo "$1 $count - $name$2"
}

# Searches all that the model can do, up to the first fault. DEPTH steps are enough for each of them, MEMORY
# MiB as well: if not, that is a failure.
# The compiler takes longer over what spin makes than most searches do.
optimize=-O0
search() { # "flags of pan" definitions...
    flags=$1
    shift
    rm -f pan* ./*.trail
    # shellcheck disable=SC2086 # flags are words
    spin "$@" -a "$here/$name.pml" >spin.log 2>&1 &&
        ${CC:-cc} "$optimize" -w -DSAFETY -DCOLLAPSE -DMEMLIM="${MEMORY:-1024}" -o pan pan.c >>spin.log 2>&1 &&
        ./pan $flags -n -m"${DEPTH:-10000}" >pan.log 2>&1
    status=$?
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log 2>/dev/null)
}

complain() { # what spin said, and the steps that led there
    cat spin.log >&2
    cat pan.log >&2 2>/dev/null
    if [ -f "$name.pml.trail" ]; then
        echo "--- the steps (p: who; after them: what all variables are at the end)" >&2
        spin "$@" -t -p -k "$name.pml.trail" "$here/$name.pml" 2>/dev/null | grep -v 'stores\[' >&2
    fi
}

holds() { # text definitions...
    text=$1
    shift
    [ "$(wc -c <"$here/$name.pml")" -gt 15000 ] || optimize=-O1
    search '' "$@"
    optimize=-O0
    if [ "$status" -eq 0 ] && grep -q 'errors: 0' pan.log && ! grep -q 'error: max search depth too small\|pan: reached\|out of memory' pan.log; then
        report ok "$text holds ($states states)"
    else
        report 'not ok' "$text holds"
        complain "$@"
    fi
}

is_faulty() { # asleep|assertion text definitions...
    kind=$1
    text=$2
    shift 2
    case $kind in # the other kind is passed over
    asleep) flag=-A fault='invalid end state' ;;
    *) flag=-E fault='assertion violated' ;;
    esac
    search "$flag" "$@"
    if grep -q "^pan:[0-9]*: $fault" pan.log 2>/dev/null; then
        report ok "$text: found ($kind)"
    else
        report 'not ok' "$text: found ($kind)"
        complain
    fi
}

# The lines of the model's head: "control NAME[+VARIANT] KIND: what is taken out", "variant NAME: what is added".
heads() { # kind of line
    sed -n "s/ *\*\/$//; s/^ \* $1 \(.*\)/\1/p" "$here/$name.pml"
}

holds ''
heads variant | sed 's/:.*//' >variants
while IFS= read -r variant <&3; do
    holds ", $variant," "-D$variant"
done 3<variants
heads control >controls
while IFS= read -r line <&3; do
    control=${line%% *}
    rest=${line#* }
    kind=${rest%%:*}
    what=${rest#*: }
    case $control in
    *+*) is_faulty "$kind" ", $control: $what" "-D${control%+*}" "-D${control#*+}" ;;
    *) is_faulty "$kind" ", $control: $what" "-D$control" ;;
    esac
done 3<controls

echo "1..$count"
[ "$failed" -eq 0 ]
