#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The torture command from outside: what it exits with and what it says.
#
#     command.sh TORTURE
set -u

command=$1
# shellcheck source=tests/command.sh
. "$(dirname "$0")/../command.sh"

echo "usage"
expect 0 '^usage: torture' --help
expect 0 '^boundary  ' --list
expect 2 'no such scenario' nonsense
expect 2 'unrecognized option' --nonsense
expect 2 'unknown' --backend=tape
expect 2 'not a number from 0 to 256' --readers=many
expect 2 'not a number from 1' --share=0
expect 2 'not a time' --seconds=soon
expect 2 'not ACTION=N' --weight=find
expect 2 'unknown' --weight=fnid=3
expect 2 'no threads' --readers=0 --writers=0
expect 2 'No such file' --seconds=0 --json="$work/none/json" mixed

echo "answers"
expect 0 'mismatches  0' --operations=5000 --readers=3 --writers=1 --seed=7 mixed
expect 0 'operations  map [0-9/]*; 0 aborted' --rounds=3 \
	--weight=replace=0,anywhere=0,unmap=0,protect=0,move=0,resize=0,clear=0,txn=0,map=1 mixed
expect 0 'mismatches  0' --operations=20000 --share=100 storm
"$command" --operations=5000 --json=- mixed storm >"$work/json" || failures=$((failures + 1))
if command -v python3 >/dev/null && ! python3 -m json.tool "$work/json" >/dev/null; then
	echo "FAILED: --json is not JSON"
	failures=$((failures + 1))
fi

expect 0 '^total: 2 scenarios, .* lookups and .* checked against .* operations' --operations=5000 \
	mixed storm

expect 0 ' \([2-9][0-9][0-9]\|[0-9]\{4,\}\) threads that looked up once' --hazards=200 churn

echo "controls"
# lie PATTERN ARGUMENT... - told and found in the first rounds; the run would go on for long.
lie() {
	pattern=$1
	shift
	expect 1 "mismatch: $pattern" --quiet --operations=1000000 "$@" mixed
}
lie '.* no version of these gives that answer' --lie=note
lie '.* the range was not leaving' --lie=deed
lie '.* as version ' --lie=version
for backend in mock host aarch64; do
	lie 'the \(mock holds\|kernel has\|tables at\)' --lie=memory --backend=$backend
done
expect 1 'nothing to lie about' --quiet --rounds=3 --lie=memory mixed
# Where nobody writes, nothing is met.
expect 1 'nothing to lie about' --quiet --rounds=3 --writers=0 --lie=deed mixed

echo "interruption"
# The coordinator, two readers, two writers.
interrupt 5 'mismatches  0' --operations=1000000000000 mixed

finish
