#!/bin/sh
# SPDX-License-Identifier: MIT
#
# log.sh PROGRAM SOURCE_DIR: an event log of aarch64_allocated passes the checker of logs, and
# with some kind of event left out it does not. The same where walks are not coherent.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check=$2/tests/aarch64/check_log.py
command -v python3 >/dev/null || { echo "skipped: there is no python3"; exit 77; }

"$1" --config 0 --operations 150 --log "$work/log" >/dev/null
python3 "$check" "$work/log"
# The last: a pointer to a table is taken away (vacated: bits 63 and 62).
for event in 'dsb all' 'dsb stores' tlbi 'swap .* 0xc000000000000000$'; do
	grep -v "^$event" "$work/log" >"$work/wrong" || true
	if said=$(python3 "$check" "$work/wrong" 2>&1); then
		echo "FAILED: without '$event' nothing is found"
		exit 1
	fi
	echo "without '$event': $said"
done

"$1" --config 0 --operations 150 --incoherent --log "$work/log" >/dev/null
python3 "$check" "$work/log"
# A barrier of stores alone, none before a link, and a store or a table that nobody has cleaned.
for edit in 's/^dsb system/dsb stores/' '/^dsb system/d' '/^clean .* 8$/d' '/^clean .* 4096$/d'; do
	sed "$edit" "$work/log" >"$work/wrong"
	if said=$(python3 "$check" "$work/wrong" 2>&1); then
		echo "FAILED: with '$edit' nothing is found"
		exit 1
	fi
	echo "with '$edit': $said"
done
