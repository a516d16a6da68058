# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For scripts that do the same with many things: to be sourced.

# in_parallel JOBS FUNCTION ARGUMENT...: once for each argument, so many at a time; adds to
# `failed` how many failed. Not as a condition's command: there, bash would ignore `set -e`
# inside.
in_parallel() {
	local jobs=$1 function=$2 argument running=0
	shift 2
	for argument; do
		if ((running == jobs)); then
			wait -n || failed=$((failed + 1))
			running=$((running - 1))
		fi
		"$function" "$argument" &
		running=$((running + 1))
	done
	for (( ; running; running--)); do
		wait -n || failed=$((failed + 1))
	done
}
