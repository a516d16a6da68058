# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# For tests of commands from outside, to be sourced with $command set.
# shellcheck disable=SC2154 # by whoever sources this

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

# complain WORD... - the test has failed; what the command said is in $work/out.
complain() {
	echo "FAILED: $*"
	sed 's/^/    /' "$work/out"
	failures=$((failures + 1))
}

# expect STATUS PATTERN ARGUMENT... - run it; the pattern is looked for in both of its outputs.
expect() {
	want=$1 pattern=$2
	shift 2
	"$command" "$@" >"$work/out" 2>&1
	got=$?
	if [ "$got" -ne "$want" ]; then
		complain "$(basename "$command") $*: exit $got, not $want"
	elif ! grep -q -e "$pattern" "$work/out"; then
		complain "$(basename "$command") $*: does not say '$pattern':"
	fi
}

finish() {
	[ "$failures" -eq 0 ] && echo "all fine"
	exit "$((failures != 0))"
}
