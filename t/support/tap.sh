# TAP for shell tests: source this, call ok once for each claim, and end with done_testing.
#     ok "what is claimed" command args...     passes if the command succeeds
#     skip_all "why"                           leaves the whole file as skipped
# What the command prints goes to the log.

tap_count=0
tap_failed=0

ok() {
    tap_text=$1
    shift
    tap_count=$((tap_count + 1))
    if "$@" >&2; then
        echo "ok $tap_count - $tap_text"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_count - $tap_text"
    fi
}

skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}

done_testing() {
    echo "1..$tap_count"
    [ "$tap_failed" -eq 0 ]
    exit
}
