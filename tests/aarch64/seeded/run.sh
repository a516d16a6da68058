#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh [--jobs=N] SOURCE_DIR WORK_DIR [FAULT...]
#
# Makes each fault that faults.txt describes in a copy of the AArch64 tables, and runs the tests that
# its line names; one of them must report it. The sources as they are must pass the same tests. A
# fault that does not apply is a failure: bring it up to date.
#
# A test may be TEST:PART, a configuration of a random test, or one function of another: where the
# fault has been seen to show. Only that is run then. Should it not show there any more, because the
# test has changed, the whole test is, and the table says which part to write down now.
#
# Two faults, or as many as --jobs says, are tried at a time.
set -euo pipefail

jobs=2
case ${1-} in
--jobs=*) jobs=${1#*=}; shift ;;
esac
source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
shift 2
here=$source/tests/aarch64/seeded
# shellcheck source=tests/bounded.sh
. "$here/../../bounded.sh"
# shellcheck source=tests/parallel.sh
. "$here/../../parallel.sh"
cc=${CC:-cc}

rm -rf "${work:?}"/*
mkdir -p "$work"/{clean,base/objects,fault,rows}
# One state of the sources, even if somebody is at work on them.
cp -r "$source/src" "$source/include" "$source/tests" "$work/clean"
source=$work/clean
tables=backend/aarch64
read -ra cmocka < <(pkg-config --cflags --libs cmocka)
failed=0

# ---- Building ----------------------------------------------------------------------

# compile TREE FILE OBJECT: FILE of TREE/src/backend/aarch64.
compile() {
	"$cc" -std=gnu11 -O1 -w -I"$source/include" -I"$1/src" -c "$1/src/$tables/$2" -o "$3"
}

# build_part FILE: an object that all tests and faults have in common.
build_part() {
	local name
	name=$(basename "$1" .c)
	case $1 in
	*/"$tables"/*) compile "$source" "$name.c" "$work/base/objects/$name.o" ;;
	*/machine.c | */log.c)
		"$cc" -std=gnu11 -O2 -I"$source/include" -c "$1" -o "$work/base/$name.o"
		;;
	*)
		"$cc" -std=gnu11 -O1 -I"$source/include" -I"$source/src" -I"$source/tests" \
			-c "$1" -o "$work/base/$name.o" "${cmocka[@]}"
		;;
	esac
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

# ---- Running ------------------------------------------------------------------------

# run_test TREE TEST[:PART]: the exit status of TREE/TEST; what it says is in TREE/log.
run_test() {
	local status=0 tree=$1 test=${2%:*} part="" args=()
	[[ $2 != *:* ]] || part=${2#*:}
	case $test in
	random) args=(--operations 40) ;;
	allocated) args=(--operations 600) ;;
	beside) args=(--rounds 10) ;;
	qemu)
		"$here/../qemu/run.sh" "$tree" "$tree/image" max >"$tree/log" 2>&1 || status=$?
		return "$status"
		;;
	*) [[ ! $part ]] || args=("$part") ;;
	esac
	[[ $part != [0-9]* ]] || args+=(--config "$part")
	bounded 200 "$tree/$test" "${args[@]}" >"$tree/log" 2>&1 || status=$?
	return "$status"
}

# verdict STATUS LOG: what a test said, in one line.
verdict() {
	local said
	said=$(grep -aE 'configuration|ERROR|FAIL' "$2" | grep -av 'configurations' |
		sed -E 's/^configuration [0-9]+, ([a-z]+ [0-9]+): /\1: /; s/^\[  ERROR   \] --- //' |
		head -n1 | cut -c1-80 || true)
	case $1 in
	124) said="does not end" ;;
	134 | 139) said="crashes (${1}) $said" ;;
	esac
	echo "$said"
}

# part_of LOG: where a whole test has failed; or was, when it crashed.
part_of() {
	local part
	part=$(sed -nE 's/^configuration ([0-9]+), .*/\1/p; s/^\[  FAILED  \] (test_[a-z0-9_]+)$/\1/p' "$1" |
		head -n1)
	[[ $part ]] || part=$(sed -nE 's/^\[ RUN      \] (test_[a-z0-9_]+)$/\1/p' "$1" | tail -n1)
	echo "$part"
}

row() {
	printf '%-34s %-28s %s\n' "$@"
}

# attempt NAME TREE TEST[:PART] OBJECT...: true if it reports; writes the row then.
attempt() {
	local name=$1 tree=$2 test=$3 status=0 part
	shift 3
	# (Its caller asks for the status, so `set -e` does not hold here.)
	[[ -e $tree/${test%:*} ]] || link_test "${test%:*}" "$tree/${test%:*}" "$@" || exit 1
	run_test "$tree" "$test" || status=$?
	((status)) || return 1
	part=$(part_of "$tree/log")
	[[ ! $part ]] || test=${test%:*}:$part
	row "$name" "$test" "$(verdict "$status" "$tree/log")"
	echo "$test" >"$work/rows/$name.used"
}

# meet NAME: the fault of that name; its row.
meet() {
	local name=$1 file=${files[$1]} old=${olds[$1]} new=${news[$1]} tree=$work/fault/$1 text
	local count test list objects_now=() object unit
	read -ra list <<<"${tests[$name]}"
	text=$(<"$source/src/$tables/$file")
	# How often is it there?
	count=${text//"$old"/}
	count=$(((${#text} - ${#count}) / ${#old}))
	if ((count != 1)); then
		row "$name" "-" "DOES NOT APPLY: found $count times in $file"
		return 1
	fi
	mkdir -p "$tree/src/$tables" "$tree/tests/aarch64"
	cp "$source/src/$tables"/* "$tree/src/$tables"
	ln -s "$source/include" "$tree/include"
	ln -s "$source/tests/aarch64/qemu" "$tree/tests/aarch64/qemu"
	printf '%s\n' "${text/"$old"/"$new"}" >"$tree/src/$tables/$file"
	for object in "$work"/base/objects/*.o; do
		unit=$(basename "$object" .o)
		if [[ $file == *.h || $file == "$unit.c" ]]; then
			compile "$tree" "$unit.c" "$tree/$unit.o"
			object=$tree/$unit.o
		fi
		objects_now+=("$object")
	done
	for test in "${list[@]}"; do
		if [[ $test == qemu ]] && ! command -v qemu-system-aarch64 >/dev/null; then
			row "$name" qemu "not tried: there is no qemu-system-aarch64"
			return
		fi
		! attempt "$name" "$tree" "$test" "${objects_now[@]}" || return 0
	done
	for test in "${list[@]}"; do
		[[ $test == *:* ]] || continue
		if attempt "$name" "$tree" "${test%:*}" "${objects_now[@]}"; then
			row "" "" "(no longer by $test)"
			return
		fi
	done
	row "$name" "-" "NOTHING CATCHES IT"
	return 1
}

# try NAME: the same in a file, and tidied up.
try() {
	local status=0
	meet "$1" >"$work/rows/$1" & # not as a condition's command: there is no `set -e` there
	wait $! || status=$?
	rm -rf "$work/fault/$1"
	return "$status"
}

# control TEST[:PART]: the control of the control, the tables as they are.
control() {
	local status=0 test=${1%:*} tree=$work/control/$1
	mkdir -p "$tree/tests/aarch64"
	if [[ $test == qemu ]]; then
		ln -s "$source/tests/aarch64/qemu" "$tree/tests/aarch64/qemu"
		ln -s "$source/include" "$source/src" "$tree"
	else
		ln -s "$work/base/$test" "$tree/$test"
	fi
	run_test "$tree" "$1" || status=$?
	((status)) || return 0
	row "(none)" "$1" "FALSE ALARM: $(verdict "$status" "$tree/log")"
	return 1
}

# ---- All of it -----------------------------------------------------------------------

declare -A files olds news tests
names=()
wanted=" $* "
name=
while IFS= read -r line || [[ $name ]]; do
	case $line in
	'fault '*)
		read -r _ name file list <<<"$line"
		old=
		new=
		;;
	-*) old+=${old:+$'\n'}${line#-} ;;
	+*) new+=${new:+$'\n'}${line#+} ;;
	'')
		if [[ $name ]] && { [[ $wanted == "  " ]] || [[ $wanted == *" $name "* ]]; }; then
			names+=("$name")
			files[$name]=$file
			olds[$name]=$old
			news[$name]=$new
			tests[$name]=$list
		fi
		name=
		;;
	esac
done <"$here/faults.txt"
((${#names[@]})) || { echo "no such fault"; exit 1; }

programs=(random tables allocated beside classify invalidate)
in_parallel "$jobs" build_part "$source/src/$tables"/*.c "$source/src/space/status.c" \
	"$source"/tests/aarch64/{machine,log}.c "$source"/tests/aarch64/test_{random,tables,allocated,beside,classify,invalidate}.c
((failed == 0)) || exit 1
in_parallel "$jobs" try "${names[@]}"
caught=$((${#names[@]} - failed))
row FAULT "CAUGHT BY" HOW
(cd "$work/rows" && cat "${names[@]}")
echo "$caught of ${#names[@]} faults caught"

mapfile -t used < <(cat "$work"/rows/*.used | sort -u)
for test in "${programs[@]}"; do
	link_test "$test" "$work/base/$test" "$work"/base/objects/*.o
done
in_parallel "$jobs" control "${used[@]}"
((failed == 0)) || { echo "$failed failures"; exit 1; }
echo "the tables as they are pass ${used[*]}"
