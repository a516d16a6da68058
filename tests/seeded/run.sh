#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh SOURCE_DIR WORK_DIR [VARIANT...]
#
# Builds each variant of the library that a patch here describes, and runs the programs
# that its line "caught-by:" names; one of them must report the fault, and a variant that
# none reports is a failure. (Some depend on chance: whether ThreadSanitizer still remembers
# an access when the race comes, say. What did not report this time is shown.) A pair that
# ends in "!" (tsan:lookups!) must report whatever the others do, and gets more attempts: it
# is there for this very fault. The library as
# it is must pass the same programs. A patch that does not apply is a failure: bring it up to date.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
shift 2
here=$source/tests/seeded
attempts=3
attempts_must=5

command -v clang >/dev/null || { echo "skipped: needs clang"; exit 77; }

flags=(-std=gnu11 -g -O1 -fno-omit-frame-pointer -DCK_USE_CC_BUILTINS)
read -ra includes < <(pkg-config --cflags liburcu-bp ck)
read -ra libraries < <(pkg-config --libs liburcu-bp ck)
libraries+=(-lpthread)
declare -A sanitize=([tsan]=-fsanitize=thread [asan]=-fsanitize=address)
TSAN_OPTIONS="suppressions=$source/src/platform/tsan.supp:exitcode=66"
export TSAN_OPTIONS+=":halt_on_error=1:history_size=7"
export ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1"

# One state of the sources, even if somebody is at work on them.
rm -rf "$work"/{tsan,asan,variant,clean}
mkdir -p "$work/clean"
cp -r "$source/src" "$source/include" "$source/tests" "$work/clean"
source=$work/clean

# compile TOOL TREE OUT FILE...: objects of TREE/src/FILE into OUT.
compile() {
	local tool=$1 tree=$2 out=$3 file
	shift 3
	mkdir -p "$out"
	for file; do
		clang "${flags[@]}" "${sanitize[$tool]}" -I"$source/include" -I"$tree/src" \
			"${includes[@]}" -c "$tree/src/$file" -o "$out/${file//\//_}.o"
	done
}

sources() {
	(cd "$1/src" && printf '%s\n' *.c tree/*.c memory/*.c platform/hosted*.c backend/*.c)
}

# The clean library and a program, once for each tool.
base() {
	local tool=$1 files
	[[ -e $work/$tool/base.a ]] && return
	mapfile -t files < <(sources "$source")
	compile "$tool" "$source" "$work/$tool/base" "${files[@]}"
	ar rc "$work/$tool/base.a" "$work/$tool"/base/*.o
}

program() {
	local tool=$1 name=$2 file=$source/tests/threads/$2.c
	[[ -e $work/$tool/$name.o ]] && return
	[[ -e $file ]] || file=$here/$name.c
	clang "${flags[@]}" "${sanitize[$tool]}" -I"$source/include" -I"$source/src" \
		"${includes[@]}" -c "$file" -o "$work/$tool/$name.o"
}

# link_program TOOL NAME OUT [OBJECT...]: objects before the archive take its place.
link_program() {
	local tool=$1 name=$2 out=$3
	shift 3
	clang "${sanitize[$tool]}" -o "$out" "$work/$tool/$name.o" "$@" "$work/$tool/base.a" \
		"${libraries[@]}"
}

row() {
	printf '%-28s %-16s %s\n' "$@"
}

# How did it end? In words.
verdict() {
	local status=$1 log=$2
	if ((status == 124)); then
		echo "does not end"
	elif grep -q 'WARNING: ThreadSanitizer' "$log"; then
		grep -m1 -o 'ThreadSanitizer: [a-z ,-]*' "$log"
	elif grep -q 'ERROR: [A-Za-z]*Sanitizer' "$log"; then
		grep -m1 -oE '(Address|Thread)Sanitizer:? ?[A-Za-z-]*' "$log"
	else
		tail -n1 "$log" | sed 's|^.*/||' | cut -c1-70
	fi
}

# run PROGRAM LOG: its exit status.
run() {
	local status=0
	timeout "${limit:-100}" "$1" >"$2" 2>&1 || status=$?
	return "$status"
}

failures=0
variants=0
found=0
declare -A controlled
row VARIANT "CAUGHT BY" HOW

shopt -s nullglob
for patch in "$here"/*.patch; do
	name=$(basename "$patch" .patch)
	[[ $# -eq 0 || " $* " == *" $name "* ]] || continue
	tree=$work/variant/$name
	mkdir -p "$tree"
	cp -r "$source/src" "$tree/src"
	if ! patch -s --no-backup-if-mismatch -p1 -d "$tree" <"$patch"; then
		row "$name" "-" "THE PATCH DOES NOT APPLY"
		failures=$((failures + 1))
		continue
	fi
	mapfile -t changed < <(sed -n 's|^+++ b/src/\([^[:space:]]*\).*|\1|p' "$patch")
	[[ ${changed[*]} == *.h* ]] && mapfile -t changed < <(sources "$tree")
	read -ra pairs < <(sed -n 's/^caught-by: //p' "$patch") ||
		{ echo "$patch: no line caught-by"; exit 1; }
	caught=0
	missed=()
	for pair in "${pairs[@]}"; do
		IFS=: read -r tool program limit <<<"${pair%!}"
		tries=$attempts
		[[ $pair != *! ]] || tries=$attempts_must
		base "$tool"
		program "$tool" "$program"
		if [[ -z ${controlled[$tool:$program]:-} ]]; then
			# The control of the control.
			controlled[$tool:$program]=1
			clean=$work/$tool/$program
			link_program "$tool" "$program" "$clean"
			status=0
			limit=300 run "$clean" "$clean.log" || status=$?
			if ((status)); then
				row "(none)" "$tool $program" \
					"FALSE ALARM: $(verdict "$status" "$clean.log")"
				sed 's/^/    /' "$clean.log" | head -60
				failures=$((failures + 1))
			fi
		fi
		compile "$tool" "$tree" "$tree/$tool" "${changed[@]}"
		faulty=$tree/$tool/$program
		link_program "$tool" "$program" "$faulty" "$tree/$tool"/*.o
		how="nothing, $tries times"
		for ((i = 0; i < tries; i++)); do
			status=0
			run "$faulty" "$faulty.log" || status=$?
			((status == 0)) && continue
			how=$(verdict "$status" "$faulty.log")
			break
		done
		row "$name" "$tool $program" "$how"
		if ((status)); then
			caught=$((caught + 1))
		elif [[ $pair == *! ]]; then
			missed+=("$tool $program")
		fi
	done
	variants=$((variants + 1))
	if ((${#missed[@]})); then
		for pair in "${missed[@]}"; do
			row "$name" "$pair" "MUST CATCH IT, AND DOES NOT"
		done
		failures=$((failures + 1))
	elif ((caught)); then
		found=$((found + 1))
	else
		row "$name" "-" "NOTHING CATCHES IT"
		failures=$((failures + 1))
	fi
done
echo "$found of $variants variants caught"
for pair in "${!controlled[@]}"; do
	echo "the library as it is passes $pair"
done | sort
if ((failures)); then
	echo "$failures failures"
	exit 1
fi
