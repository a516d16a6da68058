#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_DIR WORK_DIR CPU [TEXT...]
#
# Builds the bare-metal image with the tables' objects in it, and runs it on QEMU's CPU. It must
# end with 0 and print each TEXT. Exit code 77: the compiler or QEMU is not here.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
cpu=$3
shift 3
here=$source/tests/aarch64/qemu
prefix=aarch64-linux-gnu-

for tool in "${prefix}gcc" qemu-system-aarch64; do
	command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done

# -march=armv8-a: the same image runs on the oldest processor.
flags=(-std=gnu11 -O2 -g -ffreestanding -fno-pie -fno-stack-protector -mgeneral-regs-only
	-mno-outline-atomics -mstrict-align -march=armv8-a -Wall -Wextra -Werror
	-fno-asynchronous-unwind-tables -I"$source/include" -I"$source/src")

"${prefix}gcc" "${flags[@]}" -nostdlib -static -no-pie -Wl,--build-id=none \
	-Wl,--no-warn-rwx-segments -Wl,-T,"$here/link.ld" -o "$work/image.elf" \
	"$here/start.S" "$here/main.c" "$source"/src/backend/aarch64/*.c

status=0
timeout 280 qemu-system-aarch64 -M virt,virtualization=on,secure=on -cpu "$cpu" -m 256 \
	-nodefaults -display none -chardev stdio,id=sh \
	-semihosting-config enable=on,target=native,chardev=sh \
	-kernel "$work/image.elf" </dev/null | tee "$work/log" || status=$?
((status == 0)) || { echo "FAIL: it ended with $status"; exit 1; }
for text; do
	grep -qF "$text" "$work/log" || { echo "FAIL: it does not say: $text"; exit 1; }
done
