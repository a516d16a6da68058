#!/bin/bash
# SPDX-License-Identifier: MIT
#
# hosts.sh SOURCE_DIR
#
# What a user may ask of the build that is not a plain build: sources that are compiled together
# (unity builds) and the library as a part of his own project (add_subdirectory, FetchContent) work,
# also in a directory with a dollar and a space in its name; hosts that it is not for are refused, at
# configuring, in one sentence that says why.
set -euo pipefail

source=$1
here=$source/tests/install
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0

fail() {
	echo "FAIL $*"
	cat "$work/log"
	exit 1
}

step() {
	local what=$1

	shift
	"$@" >"$work/log" 2>&1 || fail "$what: $*"
	echo "ok   $what"
	count=$((count + 1))
}

# refused WHAT SENTENCE CMAKE_ARGUMENT...: one error, and it is ours.
refused() {
	local what=$1 sentence=$2

	shift 2
	if cmake -S "$source" -B "$work/refused" -DBUILD_TESTING=OFF "$@" >"$work/log" 2>&1; then
		fail "$what: not refused"
	fi
	rm -rf "$work/refused"
	# CMake folds its lines.
	if ! tr -s ' \n' ' ' <"$work/log" | grep -q "$sentence" ||
		(($(grep -c '^CMake Error' "$work/log") != 1)); then
		fail "$what: the answer is not '$sentence', once"
	fi
	echo "ok   $what: refused"
	count=$((count + 1))
}

# compiles COMPILER FLAG...: a program at all.
compiles() {
	echo 'int main(void) { return 0; }' >"$work/empty.c"
	"$@" "$work/empty.c" -o "$work/empty" 2>/dev/null
}

place="$work/a b\$c"
mkdir "$place"
cp -r "$source" "$place/tree" 2>/dev/null || true # build/ may be changing meanwhile
rm -rf "$place/tree/build"

step "a part of another project, unity: configure" cmake -S "$here/part" -B "$place/part" \
	-G Ninja "-DASPACE_SOURCE=$place/tree" -DCMAKE_UNITY_BUILD=ON
step "a part of another project, unity: build" cmake --build "$place/part"
for program in shared static mock; do
	step "a part of another project, unity: run $program" "$place/part/$program"
done
step "built by make: configure" cmake -S "$place/tree" -B "$place/made" -G "Unix Makefiles" \
	-DBUILD_TESTING=OFF
step "built by make: build" cmake --build "$place/made" --parallel 2 --target aspace_shared

if compiles gcc -m32; then
	refused "32-bit hosts" "aspace is for 64-bit hosts, and .* pointers have 4 bytes" \
		-DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-m32
else
	echo "not tried: 32-bit hosts; gcc -m32 makes no program here"
fi
if compiles musl-gcc; then
	refused "musl" "aspace is for hosts with the GNU C library, and .*musl-gcc uses another" \
		-DCMAKE_C_COMPILER=musl-gcc
else
	echo "not tried: musl; there is no musl-gcc"
fi
# liburcu, as pkg-config finds it, but for another machine.
mkdir "$work/pc"
cat >"$work/pc/liburcu-bp.pc" <<'EOT'
Name: liburcu-bp
Description: for another machine
Version: 0.14
Libs: -lurcu-bp-of-another-machine
EOT
export PKG_CONFIG_PATH=$work/pc
refused "a liburcu that does not link" "The liburcu-bp that pkg-config finds cannot be used with"
echo "ok: $count steps"
