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
expect 0 'mismatches  0' --seconds=0.2 --readers=3 --writers=1 --seed=7 mixed
expect 0 'operations  map [0-9/]*; 0 aborted' --seconds=0.2 \
	--weight=replace=0,anywhere=0,unmap=0,protect=0,move=0,resize=0,clear=0,txn=0,map=1 mixed
expect 0 'mismatches  0' --seconds=0 --operations=20000 --share=100 storm
"$command" --seconds=0.2 --json=- mixed storm >"$work/json" || failures=$((failures + 1))
if command -v python3 >/dev/null && ! python3 -m json.tool "$work/json" >/dev/null; then
	echo "FAILED: --json is not JSON"
	failures=$((failures + 1))
fi

expect 0 '^total: 2 scenarios, .* lookups and .* checked against .* operations' --seconds=0.2 \
	mixed storm

expect 0 ' \([2-9][0-9][0-9]\|[0-9]\{4,\}\) threads that looked up once' --seconds=0 --hazards=200 churn

echo "controls"
expect 1 'mismatch: .* no version of these gives that answer' --seconds=1 --quiet --lie=note mixed
expect 1 'mismatch: .* the range was not leaving' --seconds=1 --quiet --lie=deed mixed
expect 1 'mismatch: .* as version ' --seconds=1 --quiet --lie=version mixed
for backend in mock host aarch64; do
	expect 1 'mismatch: the \(mock holds\|kernel has\|tables at\)' --seconds=1 --quiet --lie=memory \
		--backend=$backend mixed
done
expect 1 'nothing to lie about' --seconds=0.2 --quiet --lie=memory mixed
# Where nobody writes, nothing is met.
expect 1 'nothing to lie about' --seconds=0.2 --writers=0 --quiet --lie=deed mixed

echo "interruption"
# A background job of this shell would ignore the signal.
timeout --signal=INT --preserve-status 1 "$command" --seconds=60 mixed >"$work/out" 2>&1
got=$?
if [ $got -ne 130 ] || ! grep -q 'interrupted' "$work/out" || ! grep -q 'mismatches  0' "$work/out"
then
	echo "FAILED: ^C: exit $got"
	sed 's/^/    /' "$work/out"
	failures=$((failures + 1))
fi

finish
