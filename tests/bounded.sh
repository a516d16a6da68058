# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For scripts that must tell a program that does not end from one that is slow, because the
# machine is busy: to be sourced.

# bounded SECONDS COMMAND...: its exit status, or 124 if it does not end. That is so if one
# process has used so many seconds of processor time, however long they took; or if twenty looks in
# a row, or $asleep_looks, a second apart, found every thread asleep and hardly any processor time
# used since the look before. Who only waits for a processor is not asleep; nor who works for a
# tenth of the time, and waits for grace periods in the rest.
bounded() {
	local seconds=$1 status=0 mark session watcher
	shift
	mark=$(mktemp -u)
	# A session of its own, to know its children by.
	# shellcheck disable=SC2016 # for the inner shell
	setsid bash -c 'ulimit -c 0 && ulimit -S -t "$0" && exec "$@"' "$seconds" "$@" &
	session=$!
	watch_sleep "$session" "$mark" >/dev/null 2>&1 &
	watcher=$!
	wait "$session" || status=$?
	kill "$watcher" 2>/dev/null || true
	wait "$watcher" 2>/dev/null || true
	((status != 152)) || status=124 # SIGXCPU
	[[ ! -e $mark ]] || status=124
	rm -f "$mark"
	return "$status"
}

# watch_sleep SESSION MARK: make the file and kill the session when it sleeps for good.
watch_sleep() {
	local looks=0 state ticks before=0
	while sleep 1; do
		looks=$((looks + 1))
		# What is behind the name, which may be anything: state, parent, group, session; times
		# in ticks, of which there are 100 a second. Some are gone before they are read.
		read -r state ticks < <({ cat /proc/[0-9]*/task/*/stat 2>/dev/null || true; } | awk -v session="$1" '
			{ sub(/^.*\) /, "") }
			$4 == session { ticks += $12 + $13 }
			$4 == session && $1 ~ /[RD]/ { awake = 1 }
			END { print (awake ? "awake" : "asleep"), ticks + 0 }')
		# Fewer than before: of threads that have ended.
		if [[ $state == awake ]] || ((ticks - before > 2 || before > ticks)); then
			looks=0
		fi
		before=$ticks
		if ((looks == ${asleep_looks:-20})); then
			touch "$2"
			kill -KILL -- "-$1"
		fi
	done
}
