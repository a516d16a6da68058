#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_ROOT PREFIX FILE... [-- COMPILER_FLAG...]
#
# Compiles the core FILEs (below SOURCE_ROOT/src) and the bare-metal platform with
# PREFIXgcc, -ffreestanding and no header but the compiler's own and the
# project's; links them into one object; and compares what that object lacks
# with allowed-symbols.txt. For x86-64, program.c is linked with it, without a libc, and run
# where that is the machine. Exit code 77: there is no such compiler.
set -euo pipefail

root=$1
prefix=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
files=()
while (($#)) && [[ $1 != -- ]]; do
	files+=("$1")
	shift
done
flags=("${@:2}")

if ! command -v "${prefix}gcc" >/dev/null; then
	echo "skipped: there is no ${prefix}gcc"
	exit 77
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# -nostdinc: a libc header that slips into the core is an error, not luck. Without
# it gcc's own <stdint.h>, <stdatomic.h> and so on have to be named again.
own=$("${prefix}gcc" -print-file-name=include)

# compile FILE OBJECT
compile() {
	"${prefix}gcc" -std=gnu11 -O2 -ffreestanding -nostdlib -nostdinc -isystem "$own" \
		-fno-stack-protector -fno-pie -fno-asynchronous-unwind-tables \
		-Wall -Wextra -Wundef -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror \
		-DASPACE_BARE_METAL=1 -I"$root/include" -I"$root/src" \
		"${flags[@]}" -c "$1" -o "$2"
}

objects=()
for file in "${files[@]}" platform/bare/bare_metal.c; do
	object=$out/${file//\//_}.o
	compile "$root/src/$file" "$object"
	objects+=("$object")
done
"${prefix}ld" -r -o "$out/core.o" "${objects[@]}"

sed -e '/^#/d' -e '/^$/d' "$here/allowed-symbols.txt" >"$out/allowed"
"${prefix}nm" -u "$out/core.o" | awk '{ print $2 }' | sort -u >"$out/lacking"
echo "compiled ${#objects[@]} files with ${prefix}gcc ${flags[*]}; the core asks for:"
sed 's/^/  /' "$out/lacking"
if foreign=$(grep -vxEf "$out/allowed" "$out/lacking"); then
	echo "FAIL: not in allowed-symbols.txt: ${foreign//$'\n'/ }"
	exit 1
fi

if [[ $prefix == x86_64-* ]]; then
	compile "$here/program.c" "$out/program.o"
	compile "$root/src/backend/null.c" "$out/null.o"
	"${prefix}gcc" -nostdlib -static -no-pie -o "$out/program" \
		"$out/program.o" "$out/null.o" "$out/core.o"
	echo "linked a program without a libc"
	if [[ $(uname -sm) == "Linux x86_64" ]]; then
		status=0
		"$out/program" || status=$?
		((status == 0)) || { echo "FAIL: it ended with $status"; exit 1; }
		echo "it runs"
	fi
fi
