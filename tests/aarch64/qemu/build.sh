#!/bin/bash
# SPDX-License-Identifier: MIT
#
# build.sh SOURCE_DIR OUT_DIR IMAGE...
#
# Builds the bare-metal images: OUT_DIR/IMAGE.elf. Of the library, the AArch64 tables are compiled,
# and the rest only for those images that have grace periods or a space; each file once. Exit
# code 77: the compiler is not here.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
here=$source/tests/aarch64/qemu
prefix=aarch64-linux-gnu-

command -v "${prefix}gcc" >/dev/null || { echo "skipped: there is no ${prefix}gcc"; exit 77; }

# -march=armv8-a: the same image runs on the oldest processor.
flags=(-std=gnu11 -O2 -g -ffreestanding -fno-pie -fno-stack-protector -mgeneral-regs-only
	-mno-outline-atomics -mstrict-align -march=armv8-a -Wall -Wextra -Werror
	-fno-asynchronous-unwind-tables -DASPACE_BARE_METAL=1 -I"$source/include" -I"$source/src")

own=("$here/start.S" "$here/board.c")
whole=
for image; do
	own+=("$here/$image.c")
	case $image in smp | service) whole=1 ;; esac
done

# compile DIRECTORY FILE...: into a directory of objects, two at a time. One for each room: files of
# two may have the same name.
compile() {
	local objects=$out/objects/$1
	shift
	mkdir -p "$objects"
	printf '%s\0' "$@" | (cd "$objects" && xargs -0 -n 4 -P 2 "${prefix}gcc" "${flags[@]}" -c)
}
rm -rf "$out/objects" "$out/library.a"
compile tables "$source"/src/backend/aarch64/*.c
if [[ $whole ]]; then
	compile platform "$source/src/platform/bare/bare_metal.c"
	for room in space read update reclaim; do
		files=()
		for file in "$source/src/$room"/*.c; do
			[[ $file == */lookup_*.c ]] || files+=("$file")
		done
		compile "$room" "${files[@]}"
	done
	compile tree "$source"/src/tree/*.c "$source"/src/tree/vector/{portable,vector}.c
	compile memory "$source"/src/memory/*.c
	compile helpers "$here/retire.c" "$here/lazy.c"
fi
find "$out/objects" -name '*.o' -exec "${prefix}ar" rc "$out/library.a" {} +
compile own "${own[@]}"
for image; do
	"${prefix}gcc" "${flags[@]}" -nostdlib -static -no-pie -Wl,--build-id=none \
		-Wl,--no-warn-rwx-segments -Wl,-T,"$here/link.ld" -o "$out/$image.elf" \
		"$out"/objects/own/{start,board,"$image"}.o "$out/library.a"
done
