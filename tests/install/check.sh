#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh BUILD_DIR COMPILER LIBDIR
#
# Installs what BUILD_DIR has built into a temporary prefix, moves the prefix (an
# installed tree must not remember where it was made), and builds and runs
# program.c against it in every way that a user may: through find_package and
# through pkg-config, with the shared and with the static library.
set -euo pipefail

build=$1
cc=$2
libdir=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step WHAT COMMAND...: run quietly; show everything if it fails.
step() {
	local what=$1
	shift
	if ! "$@" >"$work/log" 2>&1; then
		echo "FAIL $what: $*"
		cat "$work/log"
		exit 1
	fi
	echo "ok   $what"
}

# fail_if WHAT CONDITION...
fail_if() {
	local what=$1
	shift
	if "$@"; then
		echo "FAIL $what"
		exit 1
	fi
}

step "install" cmake --install "$build" --prefix "$work/staged"
mv "$work/staged" "$work/prefix"
lib=$work/prefix/$libdir
so=$lib/libaspace.so

# bare_metal.h comes with libaspace-bare.a, or not at all.
bare=$work/prefix/include/aspace/bare_metal.h
if [[ -e $lib/libaspace-bare.a ]]; then
	step "bare_metal.h is installed" test -e "$bare"
else
	fail_if "bare_metal.h is installed without its library" test -e "$bare"
fi
step "the licence is installed" test -n "$(find "$work/prefix" -name LICENSE)"

# ---- The shared library itself.

nm -D --defined-only "$so" | awk '$3 !~ /^(aspace_|ASPACE_)/ { print $3 }' >"$work/leaks"
fail_if "the library exports more than aspace_*: $(tr '\n' ' ' <"$work/leaks")" \
	test -s "$work/leaks"
readelf -dW "$so" >"$work/dynamic"
for want in 'soname: \[libaspace\.so\.0\]' 'NODELETE'; do
	step "libaspace.so has $want" grep -q "$want" "$work/dynamic"
done
fail_if "libaspace.so needs libck" grep -q 'NEEDED.*libck' "$work/dynamic"

# ---- find_package.

components_of() {
	case $1 in
	default) echo "" ;;
	mock) echo "mock" ;;
	static-mock) echo "static;mock" ;;
	*) echo "$1" ;;
	esac
}

for kind in default shared static mock static-mock; do
	step "find_package, $kind: configure" cmake -S "$here/project" -B "$work/cmake-$kind" \
		-DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$cc" \
		"-DCOMPONENTS=$(components_of "$kind")"
	step "find_package, $kind: build" cmake --build "$work/cmake-$kind"
	step "find_package, $kind: run" "$work/cmake-$kind/program"
	ldd "$work/cmake-$kind/program" >"$work/ldd"
	case $kind in
	static*) fail_if "static program needs libaspace.so" grep -q libaspace "$work/ldd" ;;
	*) step "find_package, $kind: uses the moved library" grep -q "$so" "$work/ldd" ;;
	esac
done

# ---- pkg-config.

export PKG_CONFIG_PATH=$lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
read -ra shared < <(pkg-config --cflags --libs aspace)
step "pkg-config, shared: build" \
	"$cc" "$here/program.c" -o "$work/shared" "${shared[@]}" -Wl,-rpath,"$lib"
step "pkg-config, shared: run" "$work/shared"

read -ra static < <(pkg-config --static --cflags --libs aspace)
step "pkg-config, all static: build" \
	"$cc" -static "$here/program.c" -o "$work/static" "${static[@]}"
step "pkg-config, all static: run" "$work/static"

step "pkg-config, static library, shared liburcu: build" \
	"$cc" "$here/program.c" -o "$work/mixed" "${static[@]/#-laspace/-l:libaspace.a}"
step "pkg-config, static library, shared liburcu: run" "$work/mixed"

read -ra mock < <(pkg-config --cflags --libs aspace-mock)
step "pkg-config, mock: build" \
	"$cc" "$here/program.c" -o "$work/mock" "${mock[@]}" -Wl,-rpath,"$lib"
step "pkg-config, mock: run" "$work/mock"

# ---- Without the shared library: the README's line must do there, too.

step "no shared library: configure" cmake -S "$here/../.." -B "$work/only-static" \
	-DCMAKE_C_COMPILER="$cc" -DASPACE_SHARED=OFF -DASPACE_STRESS=OFF -DASPACE_EXAMPLES=OFF \
	-DBUILD_TESTING=OFF -DCMAKE_INSTALL_LIBDIR="$libdir"
step "no shared library: build" cmake --build "$work/only-static"
step "no shared library: install" cmake --install "$work/only-static" --prefix "$work/static-prefix"
export PKG_CONFIG_PATH=$work/static-prefix/$libdir/pkgconfig
read -ra alone < <(pkg-config --cflags --libs aspace)
step "pkg-config, no shared library: build" "$cc" "$here/program.c" -o "$work/alone" "${alone[@]}"
step "pkg-config, no shared library: run" "$work/alone"
