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

# interrupt THREADS PATTERN ARGUMENT... - run it, and send ^C when it listens for that and has so
# many threads: not after a time, which on a busy machine is sometimes too short. It must run
# until then, and end with a summary that says so and matches the pattern.
interrupt() {
	threads=$1 pattern=$2
	shift 2
	# A background job of this shell would ignore the signal.
	env --default-signal=INT "$command" "$@" >"$work/out" 2>&1 &
	# SIGINT is the second bit of the mask. A process that has ended has no such line.
	while kill -0 $! 2>/dev/null && ! awk -v threads="$threads" '
		$1 == "SigCgt:" { listens = $2 ~ /[2367abef]$/ }
		$1 == "Threads:" { enough = $2 >= threads }
		END { exit !(listens && enough) }' "/proc/$!/status" 2>/dev/null
	do
		sleep 0.01
	done
	kill -INT $! 2>/dev/null
	wait $!
	got=$?
	if [ "$got" -ne 130 ] || ! grep -q 'interrupted' "$work/out" ||
		! grep -q -e "$pattern" "$work/out"
	then
		complain "$(basename "$command") $*: ^C: exit $got"
	fi
}

finish() {
	[ "$failures" -eq 0 ] && echo "all fine"
	exit "$((failures != 0))"
}
