#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_DIR WORK_DIR LIBDIR DATADIR
#
# Installs the library as ASPACE_TSAN builds it, with each compiler that is here, and builds
# examples/race_detector.c against that, through find_package and through pkg-config:
# correct use gives no report, and misuse gives one, without a suppression and without an
# annotation of the program's own.
set -euo pipefail

source=$1
work=$2
libdir=$3
datadir=$4
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"
# What pkg-config prints is for the shell to split: no directory with a space in its name.
installed=$(mktemp -d)
trap 'rm -rf "$installed"' EXIT
unset TSAN_OPTIONS

# step WHAT COMMAND...: run quietly; show everything if it fails.
step() {
	local what=$1
	shift
	if ! "$@" >"$work/log" 2>&1; then
		echo "FAIL $what: $*"
		cat "$work/log"
		exit 1
	fi
	echo "ok   $what"
}

check_program() {
	local what=$1 program=$2 misuse

	step "$what: correct use is not reported" "$program"
	if grep ThreadSanitizer "$work/log"; then
		echo "FAIL $what: correct use is reported"
		exit 1
	fi
	for misuse in late filled; do
		step "$what: misuse ($misuse) is reported" \
			"$source/examples/check_race.sh" "$program" "$misuse"
	done
}

check_compiler() {
	local cc=$1 prefix=$installed/$1 flags

	step "$cc: configure" cmake -S "$source" -B "$work/$cc/library" -DCMAKE_C_COMPILER="$cc" \
		-DCMAKE_INSTALL_LIBDIR="$libdir" -DCMAKE_INSTALL_DATADIR="$datadir" \
		-DASPACE_TSAN=ON -DBUILD_TESTING=OFF -DASPACE_STRESS=OFF -DASPACE_EXAMPLES=OFF
	step "$cc: build" cmake --build "$work/$cc/library" --parallel 2
	step "$cc: install" cmake --install "$work/$cc/library" --prefix "$prefix"
	step "$cc: the suppressions are installed" test -s "$prefix/$datadir/aspace/tsan.supp"

	step "$cc: find_package: configure" cmake -S "$here/project" -B "$work/$cc/project" \
		-DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" \
		-DPROGRAM="$source/examples/race_detector.c"
	step "$cc: find_package: build" cmake --build "$work/$cc/project"
	check_program "$cc: find_package" "$work/$cc/project/program"

	read -ra flags < <(PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig \
		pkg-config --cflags --libs aspace-tsan)
	step "$cc: pkg-config: build" "$cc" -g -O1 "$source/examples/race_detector.c" \
		-o "$work/$cc/program" "${flags[@]}"
	check_program "$cc: pkg-config" "$work/$cc/program"
}

checked=0
for cc in clang gcc; do
	# gcc's run-time library is a package of its own.
	echo 'int main(void) { return 0; }' >"$work/empty.c"
	if "$cc" -fsanitize=thread "$work/empty.c" -o "$work/empty" 2>/dev/null && "$work/empty"; then
		check_compiler "$cc"
		checked=$((checked + 1))
	else
		echo "     $cc: not here, or without ThreadSanitizer"
	fi
done
if ((checked == 0)); then
	echo "skipped: no compiler here has ThreadSanitizer"
	exit 77
fi
