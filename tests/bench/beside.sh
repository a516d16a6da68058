#!/bin/bash
# SPDX-License-Identifier: MIT
#
# beside.sh BENCH-BESIDE: that it measures all that it names, not how fast; its options, its exits.
set -euo pipefail

bench=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "FAIL: $*"
	exit 1
}

# exits STATUS ARGUMENT...: with that, its output in $work/out and $work/err.
exits() {
	local want=$1 got=0

	shift
	"$bench" "$@" >"$work/out" 2>"$work/err" || got=$?
	((got == want)) || fail "$*: exit $got, not $want: $(cat "$work/out" "$work/err")"
}

exits 0 --quick "--json=$work/json"
[[ ! -s $work/err ]] || fail "no terminal, and something on the standard error: $(cat "$work/err")"
# A table of figures and one of ratios, each row with its spread.
figures=$(grep -cE '^\| (sleep|populate|purge): .* \| [0-9.e+-]+ \([0-9.e+-]+ \.\. [0-9.e+-]+\) \|$' "$work/out")
targets=$(grep -cE '\| at (most|least) [0-9.]+ \| .* \| (yes|\*\*no\*\*) \|$' "$work/out")
((figures == 23 && targets >= 9)) || fail "$figures figures, $targets targets: $(cat "$work/out")"
python3 - "$work/json" <<'EOF' || fail "the JSON"
import json, sys
(run,) = json.load(open(sys.argv[1]))
assert len(run["seconds"]) == 23 and run["rounds"] == 1, run
assert all(len(v) == 1 and v[0] > 0 for v in run["seconds"].values()), run
assert all(("reached" in r) == ("at_most" in r or "at_least" in r) for r in run["ratios"].values())
EOF

# What is chosen, and the ratios that it suffices for.
exits 0 --quick --only='sleep: fault,'
[[ $(grep -c '^| sleep' "$work/out") == 2 && $(grep -c 'at most' "$work/out") == 1 ]] ||
	fail "--only: $(cat "$work/out")"
exits 0 --quick --only=sleep --quiet
[[ ! -s $work/out ]] || fail "--quiet says $(cat "$work/out")"
# Five calls of a millisecond each, one after the other.
exits 0 --quick --only='sleep: fault, 1' --json=-
python3 -c '
import json, sys
(run,) = json.load(sys.stdin)
((took,),) = run["seconds"].values()
assert took >= 0.005, took' <"$work/out" || fail "it did not sleep: $(cat "$work/out")"

exits 0 --help
grep -q '^usage: ' "$work/out" || fail "--help"
exits 2 --only=nothing
exits 2 --rounds=0
exits 2 --purge=a
exits 2 more
"$bench" --quick --only=purge >/dev/full 2>"$work/err" && fail "a full disk passes"
grep -q 'not written' "$work/err" || fail "a full disk: $(cat "$work/err")"
echo "$figures figures, $targets targets"
