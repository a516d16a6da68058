# SPDX-License-Identifier: MIT
#
# Debian's cross compiler, with arm64's libraries installed beside the native
# ones (dpkg --add-architecture arm64; liburcu-dev:arm64 and so on). Tests run
# under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

# Multiarch: headers are common to both architectures, libraries and pkg-config
# files have directories of their own. libck is not multiarch in Debian:
# ci/install-packages --test unpacks it in a directory of its own.
if(DEFINED ENV{ASPACE_ARM64_ROOT})
	set(arm64_root $ENV{ASPACE_ARM64_ROOT})
else()
	set(arm64_root ${CMAKE_CURRENT_LIST_DIR}/../build/arm64)
endif()
set(triple aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR}
	${arm64_root}/usr/lib/${triple}/pkgconfig:/usr/lib/${triple}/pkgconfig:/usr/share/pkgconfig)

find_program(QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
if(QEMU_AARCH64)
	# -L /: /lib/ld-linux-aarch64.so.1 comes with libc6:arm64.
	set(CMAKE_CROSSCOMPILING_EMULATOR ${QEMU_AARCH64} -L /)
endif()
