#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_DIR WORK_DIR CPU [--image NAME] [--smp N] [--arg WORD] [--status N] [TEXT...]
#
# Builds the bare-metal image NAME (probe by default) with the tables' objects in it, and runs it
# on QEMU's CPU. It must end with the status (0 by default) and print each TEXT. WORDs are given
# to the image. Exit code 77: the compiler or QEMU is not here.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
cpu=$3
shift 3
image=probe
smp=1
words=
want=0
while (($#)) && [[ $1 == --* ]]; do
	case $1 in
	--image) image=$2 ;;
	--smp) smp=$2 ;;
	--arg) words+=" $2" ;;
	--status) want=$2 ;;
	*) echo "run.sh: no such option: $1" >&2; exit 2 ;;
	esac
	shift 2
done
here=$source/tests/aarch64/qemu
prefix=aarch64-linux-gnu-

for tool in "${prefix}gcc" qemu-system-aarch64; do
	command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done

# -march=armv8-a: the same image runs on the oldest processor.
flags=(-std=gnu11 -O2 -g -ffreestanding -fno-pie -fno-stack-protector -mgeneral-regs-only
	-mno-outline-atomics -mstrict-align -march=armv8-a -Wall -Wextra -Werror
	-fno-asynchronous-unwind-tables -DASPACE_BARE_METAL=1 -I"$source/include" -I"$source/src")
files=("$here/start.S" "$here/board.c" "$here/$image.c" "$source"/src/backend/aarch64/*.c)

# The exception level that an image starts at is the highest that the board has.
case $image in
probe) board=virt,virtualization=on,secure=on ;;
el2) board=virt,virtualization=on ;;
*) board=virt ;;
esac
case $image in
smp) files+=("$here/retire.c" "$source/src/platform/bare_metal.c") ;;
service)
	# The whole service.
	files+=("$here/retire.c" "$source/src/platform/bare_metal.c" "$source"/src/{tree,memory}/*.c)
	for file in "$source"/src/*.c; do
		[[ $file == */lookup_*.c ]] || files+=("$file")
	done
	;;
esac

"${prefix}gcc" "${flags[@]}" -nostdlib -static -no-pie -Wl,--build-id=none \
	-Wl,--no-warn-rwx-segments -Wl,-T,"$here/link.ld" -o "$work/image.elf" "${files[@]}"

status=0
timeout 280 qemu-system-aarch64 -M "$board" -cpu "$cpu" -smp "$smp" -m 256 \
	-nodefaults -display none -chardev stdio,id=sh \
	-semihosting-config enable=on,target=native,chardev=sh,arg="$image$words" \
	-kernel "$work/image.elf" </dev/null | tee "$work/log" || status=$?
((status == want)) || { echo "FAIL: it ended with $status, not $want"; exit 1; }
for text; do
	grep -qF "$text" "$work/log" || { echo "FAIL: it does not say: $text"; exit 1; }
done
