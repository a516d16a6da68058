#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh INCLUDE_DIR C_COMPILER [CXX_COMPILER]
#
# Each public header compiles alone, included twice, as strict C11 without any
# warning, and, where there is a C++ compiler, as C++11. None of them includes
# liburcu, ck or anything that a freestanding compiler lacks.
set -euo pipefail

include=$1
cc=$2
cxx=${3:-}
failures=0

# check WHAT COMMAND...: the translation unit on stdin compiles silently.
check() {
	local what=$1 output
	shift
	if output=$("$@" 2>&1) && [[ -z $output ]]; then
		echo "ok   $what"
	else
		echo "FAIL $what"
		echo "$output"
		failures=$((failures + 1))
	fi
}

while IFS= read -r header; do
	unit="#include <$header>
#include <$header>
int main(void) { return 0; }"
	check "$header as C11" "$cc" -std=c11 -Wall -Wextra -Wstrict-prototypes \
		-pedantic-errors -ffreestanding -fsyntax-only -I"$include" -x c - <<<"$unit"
	if [[ -n $cxx ]]; then
		check "$header as C++11" "$cxx" -std=c++11 -Wall -Wextra -pedantic-errors \
			-fsyntax-only -I"$include" -x c++ - <<<"$unit"
	fi
	foreign=$("$cc" -std=c11 -M -I"$include" -x c - <<<"#include <$header>" |
		grep -oE '[^ ]*/(urcu|ck_)[^ ]*' || true)
	if [[ -n $foreign ]]; then
		echo "FAIL $header includes $foreign"
		failures=$((failures + 1))
	fi
done < <(cd "$include" && find aspace -name '*.h' | sort)
((failures == 0))
