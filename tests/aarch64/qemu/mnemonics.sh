#!/bin/bash
# SPDX-License-Identifier: MIT
#
# mnemonics.sh IMAGE.elf [OTHER.elf...]
#
# The TLBI instructions of aarch64_cpu.h, which are written there as numbers, are those that the
# disassembler knows by name: each form, local, inner- and outer-shareable, in IMAGE. And in all
# images those without an address have 31 in their lowest five bits, where the others name a
# register: neither QEMU nor the disassembler minds another number, the architecture does. Exit
# code 77: there is no disassembler.
set -euo pipefail

prefix=aarch64-linux-gnu-
command -v "${prefix}objdump" >/dev/null || { echo "skipped: there is no ${prefix}objdump"; exit 77; }

forms=(alle2 vae2 vale2 rvae2 rvale2
	vmalle1 aside1 vae1 vale1 vaae1 vaale1 rvae1 rvale1 rvaae1 rvaale1
	vmalls12e1 ipas2e1 ipas2le1 ripas2e1 ripas2le1)
expected=$(for form in "${forms[@]}"; do printf '%s\n' "$form" "${form}is" "${form}os"; done | sort)
# Words that no name is known for are disassembled as "sys". The board's own alle1 is not the header's.
found=$("${prefix}objdump" -d "$1" |
	sed -nE 's/.*\ttlbi\t([a-z0-9]+).*/\1/p; s/.*\t(sys)\t.*/\1/p' | grep -vx alle1 | sort -u)
if ! diff <(echo "$expected") <(echo "$found"); then
	echo "FAIL: < expected, > found"
	exit 1
fi
# ADDRESS: WORD NAME, of what takes no address.
whole=$(for image; do
	"${prefix}objdump" -d "$image" |
		sed -nE 's/^ *([0-9a-f]+:)\t([0-9a-f]{8}) \ttlbi\t((alle[12]|vmalle1|vmalls12e1)(is|os)?)(\s.*)?$/\1 \2 \3/p'
done)
while read -r at word name; do
	(((16#$word & 31) == 31)) || {
		echo "FAIL: $name at $at $word: Xt is $((16#$word & 31))"
		exit 1
	}
done <<<"$whole"
named=$(cut -d' ' -f3 <<<"$whole" | grep -vx alle1 | sort -u | wc -l)
((named == 9)) || { echo "FAIL: $named forms without an address instead of 9"; exit 1; }
echo "ok: $(wc -l <<<"$found") instructions; $(wc -l <<<"$whole") without an address have Xt = 31"
