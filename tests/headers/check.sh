#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh INCLUDE_DIR C_COMPILER CXX_COMPILER...
#
# Each public header compiles alone, included twice, without any warning, as strict C11, and with
# each of the C++ compilers as C++11, 14, 17, 20 and 23; clang++ also compiles what is for AArch64
# only. The warnings are those of people who want no old-style cast and no conversion that they have
# not written; each macro is used once, for what is wrong in a macro shows only there. None of the
# headers includes liburcu, ck or anything that a freestanding compiler lacks.
set -euo pipefail

include=$1
cc=$2
shift 2
failures=0
count=0
warnings=(-Wall -Wextra -pedantic-errors -Wshadow -Wconversion -Wsign-conversion -Wundef)
warnings_cxx=("${warnings[@]}" -Wold-style-cast)

# check WHAT COMMAND...: the translation unit $unit compiles silently.
check() {
	local what=$1 output status=0

	shift
	count=$((count + 1))
	output=$("$@" - <<<"$unit" 2>&1) || status=$?
	# A structure and a function may share a name, as stat(2) does. g++ says so under -Wshadow.
	output=$(grep -E 'warning:|error:' <<<"$output" | grep -v 'hides constructor for' || true)
	if ((status)) || [[ $output ]]; then
		echo "FAIL $what (exit $status)"
		echo "$output"
		failures=$((failures + 1))
	fi
}

# uses HEADER: a statement for each of its macros that has a value, or takes one.
uses() {
	sed -nE -e '/_H$/d' \
		-e 's/^#define (ASPACE_[A-Z0-9_]+)\([a-z]+\).*/\1 (1)/p' \
		-e 's/^#define (ASPACE_[A-Z0-9_]+)[ \t]+[^ \t].*/\1/p' "$include/$1" |
		while read -r name argument; do
			[[ $name != ASPACE_API ]] || continue # an attribute
			printf '#ifdef %s\n\t{ auto used = %s%s; static_cast<void>(used); }\n#endif\n' \
				"$name" "$name" "$argument"
		done
}

# dialect COMPILER NN: its name for C++NN, which it had before that standard was out.
dialect() {
	local name

	for name in "c++$2" c++2b; do
		if "$1" -std="$name" -fsyntax-only -x c++ /dev/null 2>/dev/null; then
			echo "$name"
			return
		fi
	done
	return 1
}

mapfile -t headers < <(cd "$include" && find aspace -name '*.h' | sort)
for header in "${headers[@]}"; do
	unit="#include <$header>
#include <$header>
int main(void) { return 0; }"
	check "$header as C11" "$cc" -std=c11 "${warnings[@]}" -Wstrict-prototypes \
		-ffreestanding -fsyntax-only -I"$include" -x c
	foreign=$("$cc" -std=c11 -M -I"$include" -x c - <<<"#include <$header>" |
		grep -oE '[^ ]*/(urcu|ck_)[^ ]*' || true)
	if [[ -n $foreign ]]; then
		echo "FAIL $header includes $foreign"
		failures=$((failures + 1))
	fi
done
((${#headers[@]} >= 11)) || { echo "FAIL: only ${#headers[@]} headers found"; exit 1; }

for cxx; do
	for standard in 11 14 17 20 23; do
		name=$(dialect "$cxx" "$standard") || { echo "FAIL $cxx knows no C++$standard"; exit 1; }
		for header in "${headers[@]}"; do
			unit="#include <$header>
#include <$header>
int main() {
$(uses "$header")
return 0; }"
			check "$header as $name, $cxx" "$cxx" "-std=$name" "${warnings_cxx[@]}" \
				-fsyntax-only -I"$include" -x c++
			if [[ $cxx == *clang* ]]; then
				check "$header as $name, $cxx, AArch64" "$cxx" \
					--target=aarch64-linux-gnu -ffreestanding -nostdinc++ \
					"-std=$name" "${warnings_cxx[@]}" \
					-fsyntax-only -I"$include" -x c++
			fi
		done
	done
done
((failures == 0)) || exit 1
echo "ok: ${#headers[@]} headers, compiled $count times, with $cc $*"
