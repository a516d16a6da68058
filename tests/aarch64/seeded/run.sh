#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_DIR WORK_DIR [FAULT...]
#
# Makes each fault that faults.txt describes in a copy of the AArch64 tables, and runs the tests that
# its line names; one of them must report it. The sources as they are must pass the same tests. A
# fault that does not apply is a failure: bring it up to date.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
shift 2
here=$source/tests/aarch64/seeded
# shellcheck source=tests/bounded.sh
. "$here/../../bounded.sh"
cc=${CC:-cc}

rm -rf "${work:?}"/*
mkdir -p "$work/clean" "$work/base"
# One state of the sources, even if somebody is at work on them.
cp -r "$source/src" "$source/include" "$source/tests" "$work/clean"
source=$work/clean
tables=backend/aarch64
read -ra cmocka < <(pkg-config --cflags --libs cmocka)

# compile TREE FILE OBJECT: FILE of TREE/src/backend/aarch64.
compile() {
	"$cc" -std=gnu11 -O1 -g -w -I"$source/include" -I"$1/src" -c "$1/src/$tables/$2" -o "$3"
}

# link_test TEST OUT OBJECT...
link_test() {
	local name=$1 out=$2
	shift 2
	[[ $name != qemu ]] || return 0 # run_test makes its image
	"$cc" -o "$out" "$work/base/test_$name.o" "$work/base/machine.o" "$work/base/log.o" \
		"$work/base/status.o" "$@" \
		"${cmocka[@]}" -lpthread
}

row() {
	printf '%-34s %-12s %s\n' "$@"
}

# run_test PROGRAM TEST LOG: its exit status.
run_test() {
	local status=0 args=() tree=${1%/*}
	[[ $2 != random ]] || args=(--operations 40)
	[[ $2 != allocated ]] || args=(--operations 600)
	[[ $2 != beside ]] || args=(--rounds 10)
	if [[ $2 == qemu ]]; then
		[[ $tree != "$work/base" ]] || tree=$source
		"$here/../qemu/run.sh" "$tree" "$work/image" max >"$3" 2>&1 || status=$?
		return "$status"
	fi
	bounded 200 "$1" "${args[@]}" >"$3" 2>&1 || status=$?
	return "$status"
}

# What a test said, in one line.
verdict() {
	local said
	said=$(grep -aE 'configuration|ERROR|FAIL' "$2" | grep -av 'configurations' |
		sed -E 's/^configuration ([0-9]+), operation ([0-9]+): /\1.\2: /; s/^\[  ERROR   \] --- //' |
		head -n1 | cut -c1-80 || true)
	case $1 in
	124) said="does not end" ;;
	134 | 139) said="crashes (${1}) $said" ;;
	esac
	echo "$said"
}

for test in random tables allocated beside classify invalidate; do
	"$cc" -std=gnu11 -O1 -g -I"$source/include" -I"$source/src" -I"$source/tests" \
		-c "$source/tests/aarch64/test_$test.c" -o "$work/base/test_$test.o" "${cmocka[@]}"
done
for part in machine log; do
	"$cc" -std=gnu11 -O2 -g -I"$source/include" -c "$source/tests/aarch64/$part.c" \
		-o "$work/base/$part.o"
done
"$cc" -std=gnu11 -O1 -g -I"$source/include" -c "$source/src/space/status.c" -o "$work/base/status.o"
objects=()
for file in "$source/src/$tables"/*.c; do
	name=$(basename "$file" .c)
	mkdir -p "$work/base/objects"
	compile "$source" "$name.c" "$work/base/objects/$name.o"
	objects+=("$work/base/objects/$name.o")
done

failures=0
declare -A controlled
control() {
	local status=0
	[[ -z ${controlled[$1]:-} ]] || return 0
	controlled[$1]=1
	link_test "$1" "$work/base/$1" "${objects[@]}"
	run_test "$work/base/$1" "$1" "$work/base/$1.log" || status=$?
	if ((status)); then
		row "(none)" "$1" "FALSE ALARM: $(verdict "$status" "$work/base/$1.log")"
		failures=$((failures + 1))
	fi
}

# try NAME FILE OLD NEW TEST...
found=0
faults=0
try() {
	local name=$1 file=$2 old=$3 new=$4 tree=$work/fault/$1 text count test status
	local changed objects_now=() object caught=
	shift 4
	faults=$((faults + 1))
	text=$(<"$source/src/$tables/$file")
	# How often is it there?
	count=${text//"$old"/}
	count=$(((${#text} - ${#count}) / ${#old}))
	if ((count != 1)); then
		row "$name" "-" "DOES NOT APPLY: found $count times in $file"
		failures=$((failures + 1))
		return
	fi
	mkdir -p "$tree/src/$tables" "$tree/tests/aarch64"
	cp "$source/src/$tables"/* "$tree/src/$tables"
	ln -s "$source/include" "$tree/include"
	ln -s "$source/tests/aarch64/qemu" "$tree/tests/aarch64/qemu"
	printf '%s\n' "${text/"$old"/"$new"}" >"$tree/src/$tables/$file"
	if [[ $file == *.h ]]; then changed=all; else changed=${file%.c}; fi
	for object in "${objects[@]}"; do
		local unit
		unit=$(basename "$object" .o)
		if [[ $changed == all || $changed == "$unit" ]]; then
			compile "$tree" "$unit.c" "$tree/$unit.o"
			object=$tree/$unit.o
		fi
		objects_now+=("$object")
	done
	for test; do
		if [[ $test == qemu ]] && ! command -v qemu-system-aarch64 >/dev/null; then
			row "$name" qemu "not tried: there is no qemu-system-aarch64"
			caught=1
			break
		fi
		control "$test"
		link_test "$test" "$tree/$test" "${objects_now[@]}"
		status=0
		run_test "$tree/$test" "$test" "$tree/$test.log" || status=$?
		if ((status)); then
			row "$name" "$test" "$(verdict "$status" "$tree/$test.log")"
			caught=1
			break
		fi
	done
	if [[ $caught ]]; then
		found=$((found + 1))
	else
		row "$name" "-" "NOTHING CATCHES IT"
		failures=$((failures + 1))
	fi
	rm -rf "$tree"
}

row FAULT "CAUGHT BY" HOW
wanted=" $* "
name=
while IFS= read -r line || [[ $name ]]; do
	case $line in
	'fault '*)
		read -r _ name file tests <<<"$line"
		old=
		new=
		;;
	-*) old+=${old:+$'\n'}${line#-} ;;
	+*) new+=${new:+$'\n'}${line#+} ;;
	'')
		if [[ $name ]] && { [[ $wanted == "  " ]] || [[ $wanted == *" $name "* ]]; }; then
			read -ra list <<<"$tests"
			try "$name" "$file" "$old" "$new" "${list[@]}"
		fi
		name=
		;;
	esac
done <"$here/faults.txt"

echo "$found of $faults faults caught"
for test in "${!controlled[@]}"; do
	echo "the tables as they are pass $test"
done | sort
((failures == 0 && faults > 0)) || { echo "$failures failures"; exit 1; }
