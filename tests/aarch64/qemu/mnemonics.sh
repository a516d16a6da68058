#!/bin/bash
# SPDX-License-Identifier: MIT
#
# mnemonics.sh IMAGE.elf
#
# The TLBI instructions of aarch64_cpu.h, which are written there as numbers, are those that the
# disassembler knows by name: each form, local, inner- and outer-shareable. Exit code 77: there
# is no disassembler.
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
echo "ok: $(wc -l <<<"$found") instructions"
