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
#
# A pair is TOOL:PROGRAM[:SECONDS]. The tools are tsan, asan and plain (none: the program
# itself must say what is wrong). The programs are those of tests/threads and of this directory, and
# torture+SCENARIO, torture+BACKEND+SCENARIO.
#
# The table of who catches what is left in WORK_DIR/table.
set -euo pipefail

source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
shift 2
here=$source/tests/seeded
attempts=3
attempts_must=5

command -v clang >/dev/null || { echo "skipped: needs clang"; exit 77; }

# The checks of the builds for tests included.
flags=(-std=gnu11 -g -O1 -fno-omit-frame-pointer -DCK_USE_CC_BUILTINS -DASPACE_TESTING=1)
read -ra includes < <(pkg-config --cflags liburcu-bp ck)
read -ra libraries < <(pkg-config --libs liburcu-bp ck)
libraries+=(-lpthread)
declare -A sanitize=([tsan]=-fsanitize=thread [asan]=-fsanitize=address [plain]=-fno-sanitize=all)
export TSAN_OPTIONS=exitcode=66:halt_on_error=1:history_size=7
export ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1"

# One state of the sources, even if somebody is at work on them.
rm -rf "$work"/{tsan,asan,plain,variant,clean,table}
mkdir -p "$work/clean"
cp -r "$source/src" "$source/include" "$source/tests" "$source/stress" "$work/clean"
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
	(cd "$1/src" && printf '%s\n' *.c tree/*.c memory/*.c platform/hosted*.c backend/*.c \
		backend/aarch64/*.c)
}

# The clean library and a program, once for each tool.
base() {
	local tool=$1 files
	[[ -e $work/$tool/base.a ]] && return
	mapfile -t files < <(sources "$source")
	compile "$tool" "$source" "$work/$tool/base" "${files[@]}"
	ar rc "$work/$tool/base.a" "$work/$tool"/base/*.o
}

# program TOOL NAME: its objects, in the directory of its name.
program() {
	local tool=$1 name=$2 file files=("$source/tests/threads/$2.c") out=$work/$1/$2
	[[ -d $out ]] && return
	if [[ $name == torture ]]; then
		files=("$source"/stress/torture.c "$source"/stress/{torture,common}/*.c)
	elif [[ ! -e ${files[0]} ]]; then
		files=("$here/$name.c")
	fi
	mkdir -p "$out"
	for file in "${files[@]}"; do
		clang "${flags[@]}" "${sanitize[$tool]}" -I"$source/include" -I"$source/src" \
			-I"$source/stress" -I"$source/stress/common" "${includes[@]}" \
			-c "$file" -o "$out/$(basename "$file" .c).o"
	done
}

# arguments_of PROGRAM[+BACKEND]+SCENARIO: what the program is started with.
arguments_of() {
	local scenario=${1##*+} backend=mock
	[[ $1 == *+* ]] || return 0
	[[ $1 != *+*+* ]] || backend=$(cut -d+ -f2 <<<"$1")
	echo --quiet --seconds=4 --patience=20 "--backend=$backend" "$scenario"
}

# link_program TOOL NAME OUT [OBJECT...]: objects before the archive take its place.
link_program() {
	local tool=$1 name=$2 out=$3
	shift 3
	clang "${sanitize[$tool]}" -o "$out" "$work/$tool/$name"/*.o "$@" "$work/$tool/base.a" \
		"${libraries[@]}"
}

row() {
	printf '%-20s %-24s %s\n' "$@" | tee -a "$work/table"
}

# How did it end? In words.
verdict() {
	local status=$1 log=$2
	if ((status == 124)) && ! grep -q 'mismatch: ' "$log"; then
		echo "does not end"
	elif ((status == 132)); then # SIGILL
		echo "a check of the builds for tests"
	elif grep -q 'WARNING: ThreadSanitizer' "$log"; then
		grep -m1 -o 'ThreadSanitizer: [a-z ,-]*' "$log"
	elif ((status > 128)); then
		echo "signal $((status - 128))"
	elif grep -q 'torture: .*: mismatch: ' "$log"; then
		# Without its place: what answered, and why that is no truth.
		sed -nE 's/^torture: [a-z]+: mismatch: //p' "$log" | head -n1 |
			sed -E 's/ (at|of) [^:]*: /: /' | cut -c1-90
	elif grep -q 'torture: .*: a round does not end' "$log"; then
		echo "a round does not end"
	elif grep -q 'ERROR: [A-Za-z]*Sanitizer' "$log"; then
		grep -m1 -oE '(Address|Thread)Sanitizer:? ?[A-Za-z-]*' "$log"
	else
		tail -n1 "$log" | sed 's|^.*/||' | cut -c1-70
	fi
}

# run FILE PROGRAM: its exit status; its output in FILE.log.
run() {
	local status=0 arguments
	read -ra arguments <<<"$(arguments_of "$2")"
	timeout "${limit:-100}" "$1" "${arguments[@]}" >"$1.log" 2>&1 || status=$?
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
		name_of=${program%%+*}
		program "$tool" "$name_of"
		if [[ -z ${controlled[$tool:$program]:-} ]]; then
			# The control of the control.
			controlled[$tool:$program]=1
			clean=$work/$tool/clean-$program
			link_program "$tool" "$name_of" "$clean"
			status=0
			limit=300 run "$clean" "$program" || status=$?
			if ((status)); then
				row "(none)" "$tool $program" \
					"FALSE ALARM: $(verdict "$status" "$clean.log")"
				sed 's/^/    /' "$clean.log" | head -60
				failures=$((failures + 1))
			fi
		fi
		[[ -d $tree/$tool ]] || compile "$tool" "$tree" "$tree/$tool" "${changed[@]}"
		faulty=$tree/$tool/$program
		link_program "$tool" "$name_of" "$faulty" "$tree/$tool"/*.o
		how="nothing, $tries times"
		for ((i = 0; i < tries; i++)); do
			status=0
			run "$faulty" "$program" || status=$?
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
row "$found of $variants" "variants caught" ""
for pair in "${!controlled[@]}"; do
	echo "the library as it is passes $pair"
done | sort
if ((failures)); then
	echo "$failures failures"
	exit 1
fi
