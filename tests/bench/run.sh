#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_ROOT BIN PEER,...: the benchmark's driver from outside: what it
# measures, saves and shows, and how it stops. Not how fast anything is.
set -euo pipefail
set -m # jobs get a process group of their own, and ^C

run=$1/stress/bench/run
bin=$2
peers=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2054 # the comma is the option's
small=(--bin "$bin" --peers "$peers" --areas 64,100 --rounds 2 --seconds 0.001)

fail() {
	echo "FAIL: $*"
	exit 1
}

# expect STATUS PATTERN ARGUMENT...: run with these; the pattern is looked for in all output.
expect() {
	local want=$1 pattern=$2 got=0

	shift 2
	"$run" "$@" >"$work/log" 2>&1 || got=$?
	if ((got != want)) || ! grep -q -e "$pattern" "$work/log"; then
		cat "$work/log"
		fail "run $*: exit $got, not $want, or no '$pattern'"
	fi
}

echo "usage"
expect 0 '^usage' --help
expect 2 'invalid numbers' --areas 3
expect 2 'no results of' table "$1/README.md"
expect 2 'has the workload nonsense' "${small[@]}" --workloads nonsense --out "$work/none"
expect 2 'bench-nobody is not there' "${small[@]}" --peers aspace,nobody --out "$work/none"

echo "results, tables, plots"
workloads=random,local,bytes-random,replay
expect 0 '^| what' "${small[@]}" --workloads $workloads --out "$work/results.json"
grep -q $'\r' "$work/log" && fail "progress where there is no terminal"
python3 - "$work/results.json" "$peers" <<'EOF' || fail "not the results that were asked for"
import json, sys

data = json.load(open(sys.argv[1]))
runs = [(r["column"], r["workload"], r["areas"], r["round"]) for r in data["runs"]]
for peer in sys.argv[2].split(","):
    for areas in (64, 100):
        for round in (0, 1):
            if runs.count((peer, "random", areas, round)) != 1:
                sys.exit(f"{peer}, {areas}, {round}")
# Each round of a workload begins with another program.
first = [next(r[0] for r in runs if r[1:] == ("random", 64, n)) for n in (0, 1)]
if first[0] == first[1] and "," in sys.argv[2]:
    sys.exit(f"{first[0]} is always the first")
EOF
expect 0 '^### local' table "$work/results.json"
grep -q '^| clang | 249 |' "$work/log" || fail "no replayed trace in the tables"
grep -q '^| 100 | .*ns (' "$work/log" || fail "no row of figures in the tables"
expect 0 'random.svg' plot "$work/results.json" "$work/plots"
for plot in random local bytes-random; do
	grep -q '<svg' "$work/plots/$plot.svg" || fail "$plot.svg is no plot"
done

echo "a wrong answer"
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s/bench-sorted" --inject-mismatch "$@"\n' "$bin" >"$work/bin/bench-sorted"
chmod +x "$work/bin/bench-sorted"
expect 1 'wrong answers' "${small[@]}" --bin "$work/bin" --peers sorted --out "$work/none"

echo "^C"
mkfifo "$work/fifo"
"$run" "${small[@]}" --rounds 100000 --workloads random --out "$work/cut.json" \
	>"$work/fifo" 2>"$work/err" &
while read -r line; do # the first round has been measured
	[[ $line != *"round 1 of"* ]] || kill -INT -- -$!
	echo "$line"
done <"$work/fifo" >"$work/log"
status=0
wait $! || status=$?
((status == 130)) || fail "exit $status, not 130"
grep -q '^| what' "$work/log" || fail "no summary after ^C"
expect 0 'interrupted' table "$work/cut.json"
echo ok
