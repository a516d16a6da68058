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

# ---- What is installed, all of it: nothing that is for tests or measurements.

(cd "$work/prefix" && find . ! -type d | sed 's|^\./||' | sort) >"$work/files"
grep -vE -e '^include/aspace/(backend/)?[a-z0-9_]+\.h$' \
	-e "^$libdir/libaspace(-mock|-bare|-tsan)?\.a\$" -e "^$libdir/libaspace\.so(\.[0-9]+)*\$" \
	-e "^$libdir/cmake/aspace/[A-Za-z-]+\.cmake\$" -e "^$libdir/pkgconfig/aspace(-[a-z]+)?\.pc\$" \
	-e '^share/doc/aspace/LICENSE$' -e '^share/aspace/tsan\.supp$' "$work/files" >"$work/others" || true
fail_if "more is installed: $(tr '\n' ' ' <"$work/others")" test -s "$work/others"
(cd "$here/../../include" && find aspace -name '*.h' ! -name bare_metal.h | sort) >"$work/headers"
(cd "$work/prefix/include" && find aspace -name '*.h' ! -name bare_metal.h | sort) |
	step "the public headers are installed" diff "$work/headers" -

# ---- What is exported is what headers declare.

# declared HEADER...: the functions that they export. A declaration begins with ASPACE_API and may
# go over lines.
declared() {
	cat "$@" | tr '\n\t' '  ' | grep -oE 'ASPACE_API [^;#]*;' |
		grep -oE 'aspace_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u
}

# same WHAT EXPECTED FOUND: two sorted lists.
same() {
	fail_if "$1 exports what no header declares: $(comm -13 "$2" "$3" | tr '\n' ' ')" \
		test -n "$(comm -13 "$2" "$3")"
	fail_if "$1 lacks: $(comm -23 "$2" "$3" | tr '\n' ' ')" test -n "$(comm -23 "$2" "$3")"
	echo "ok   $1 exports the $(wc -l <"$2") functions of its headers"
}

# The mock and bare metal are archives of their own.
mapfile -t headers < <(find "$work/prefix/include" -name '*.h' ! -name mock.h ! -name bare_metal.h)
declared "${headers[@]}" >"$work/declared"
nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort >"$work/exported"
same "libaspace.so" "$work/declared" "$work/exported"
# visible ARCHIVE: what it defines for whoever is linked with it; asp_... is the library's own.
visible() {
	nm --defined-only "$1" | awk 'NF == 3 && $2 ~ /[A-Z]/ && $3 !~ /^asp_/ { print $3 }' | sort
}
visible "$lib/libaspace.a" >"$work/exported"
same "libaspace.a" "$work/declared" "$work/exported"
declared "$work/prefix/include/aspace/backend/mock.h" >"$work/declared"
visible "$lib/libaspace-mock.a" >"$work/exported"
same "libaspace-mock.a" "$work/declared" "$work/exported"

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
