# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the commands in ci/ share: to be sourced, first thing.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is built lies below here; ASPACE_BUILD moves it elsewhere.
build=$(realpath -m "${ASPACE_BUILD:-$root/build}")
jobs=$(nproc)

say() {
	printf '==> %s\n' "$*"
}

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# seconds_since SECONDS_THEN: "1 min 5 s"
seconds_since() {
	local s=$((SECONDS - $1))

	if ((s >= 60)); then
		printf '%d min %d s' $((s / 60)) $((s % 60))
	else
		printf '%d s' "$s"
	fi
}

# configure_and_build PRESET [CMAKE_ARGUMENT...]
configure_and_build() {
	local preset=$1

	shift
	(cd "$root" && cmake --preset "$preset" -B "$build/$preset" "$@") &&
		cmake --build "$build/$preset" --parallel "$jobs"
}
