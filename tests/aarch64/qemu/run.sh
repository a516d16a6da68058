#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_DIR WORK_DIR CPU [OPTION...] [TEXT...]
#
# Runs a bare-metal image on QEMU's CPU. It must print each TEXT.
#
#   --image NAME	default: probe
#   --built DIR	the image is in there (build.sh); default: it is built in WORK_DIR first
#   --smp N		so many CPUs; default: 1
#   --el N		the exception level that it starts at, 1 to 3; default: 1, for probe 3
#   --arg WORD		given to the image; may be repeated
#   --status N		it must end with this; default: 0
#
# Exit code 77: the compiler or QEMU is not here.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
cpu=$3
shift 3
image=probe
built=
smp=1
el=
words=
want=0
while (($#)) && [[ $1 == --* ]]; do
	case $1 in
	--image) image=$2 ;;
	--built) built=$2 ;;
	--smp) smp=$2 ;;
	--el) el=$2 ;;
	--arg) words+=" $2" ;;
	--status) want=$2 ;;
	*) echo "run.sh: no such option: $1" >&2; exit 2 ;;
	esac
	shift 2
done

for tool in aarch64-linux-gnu-gcc qemu-system-aarch64; do
	command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
if [[ ! $built ]]; then
	"$source/tests/aarch64/qemu/build.sh" "$source" "$work" "$image"
	built=$work
fi

# The highest exception level that the board has.
[[ $image != probe ]] || el=${el:-3}
case ${el:-1} in
1) board=virt ;;
2) board=virt,virtualization=on ;;
3) board=virt,virtualization=on,secure=on ;;
esac

status=0
qemu-system-aarch64 -M "$board" -cpu "$cpu" -smp "$smp" -m 256 \
	-nodefaults -display none -chardev stdio,id=sh \
	-semihosting-config enable=on,target=native,chardev=sh,arg="$image$words" \
	-kernel "$built/$image.elf" </dev/null | tee "$work/log" || status=$?
((status == want)) || { echo "FAIL: it ended with $status, not $want"; exit 1; }
for text; do
	grep -qF -- "$text" "$work/log" || { echo "FAIL: it does not say: $text"; exit 1; }
done
