#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh [--rate=N] [--all] [--jobs=N] SOURCE_DIR WORK_DIR [VARIANT...]
#
# Builds each variant of the library that a patch here describes, and runs the programs
# that its line "caught-by:" names; one of them must report the fault, and a variant that
# none reports is a failure. (Some depend on chance: whether ThreadSanitizer still remembers
# an access when the race comes, say. What did not report this time is shown.) A pair that
# ends in "!" (tsan:lookups!) must report whatever the others do, and gets more attempts: it
# is there for this very fault. Those come first, and the others are only tried, in their order,
# until one has reported; with --all they all are. The library as it is must pass the same
# programs. A patch that does not apply is a failure: bring it up to date.
#
# A pair is TOOL:PROGRAM[:SECONDS], of processor time, after which a program does not end. The tools are tsan, asan, plain (none: the program
# itself must say what is wrong) and frozen (none, but that published nodes cannot be written). The programs are those of tests/threads and of this directory, and
# torture+SCENARIO, torture+BACKEND+SCENARIO.
#
# Two things, or as many as --jobs says, are done at a time. The table of who catches what is
# left in WORK_DIR/table. With --rate every pair is attempted N times and the table says how
# often it reported: each variant wants a pair that hardly ever misses.
set -euo pipefail

attempts=3
attempts_must=5
jobs=2
rate=
all=
while [[ ${1-} == --* ]]; do
	case $1 in
	--rate=*) rate=${1#*=} all=1 ;;
	--all) all=1 ;;
	--jobs=*) jobs=${1#*=} ;;
	*) echo "run.sh: $1?" >&2; exit 2 ;;
	esac
	shift
done
source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
shift 2
here=$source/tests/seeded
# shellcheck source=tests/bounded.sh
. "$here/../bounded.sh"
asleep_looks=8
# shellcheck source=tests/parallel.sh
. "$here/../parallel.sh"

command -v clang >/dev/null || { echo "skipped: needs clang"; exit 77; }

# The checks of the builds for tests included.
flags=(-std=gnu11 -gline-tables-only -O1 -fno-omit-frame-pointer -DCK_USE_CC_BUILTINS -DASPACE_TESTING=1)
read -ra includes < <(pkg-config --cflags liburcu-bp ck)
read -ra libraries < <(pkg-config --libs liburcu-bp ck)
libraries+=(-lpthread)
declare -A sanitize=([tsan]=-fsanitize=thread [asan]=-fsanitize=address [plain]=-fno-sanitize=all
	[frozen]=-DASPACE_FROZEN=1)
export TSAN_OPTIONS=exitcode=66:halt_on_error=1:history_size=7
export ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1"

# One state of the sources, even if somebody is at work on them.
rm -rf "$work"/{tsan,asan,plain,frozen,variant,clean,table}
mkdir -p "$work/clean"
cp -r "$source/src" "$source/include" "$source/tests" "$source/stress" "$work/clean"
source=$work/clean

failed=0

# ---- Building -------------------------------------------------------------------

# library_of TREE: the files of the library.
library_of() {
	(cd "$1" && find src -name '*.c' ! -path 'src/platform/bare/*' | sort)
}

# program_of NAME: the files of a program.
program_of() {
	(cd "$source" && if [[ $1 == torture ]]; then
		printf '%s\n' stress/torture.c stress/{torture,common}/*.c
	else
		ls "tests/threads/$1.c" "tests/seeded/$1.c" 2>/dev/null || true
	fi)
}

# compile TOOL OUT TREE FILE...: objects of TREE/FILE into OUT.
compile() {
	local tool=$1 out=$2 tree=$3 file
	shift 3
	mkdir -p "$out"
	for file; do
		clang "${flags[@]}" "${sanitize[$tool]}" -I"$source/include" -I"$tree/src" \
			-I"$tree/stress" -I"$tree/stress/common" "${includes[@]}" \
			-MMD -c "$tree/$file" -o "$out/${file//\//_}.o" || return 1
	done
}

# build_part TOOL:NAME: the clean library ("library") or a program, with TOOL, if it is not there.
build_part() {
	local tool=${1%%:*} name=${1#*:} files out
	out=$work/$tool/$name
	mkdir -p "$out"
	exec {lock}>"$out.lock"
	flock "$lock"
	if [[ ! -e $out.built ]]; then
		if [[ $name == library ]]; then
			mapfile -t files < <(library_of "$source")
		else
			mapfile -t files < <(program_of "$name")
		fi
		compile "$tool" "$out" "$source" "${files[@]}" || return 1
		[[ $name != library ]] || ar rc "$work/$tool/library.a" "$out"/*.o
		touch "$out.built"
	fi
	exec {lock}>&-
}

# compile_variant TOOL TREE FILE...: of the library, what has become another by these.
compile_variant() {
	local tool=$1 tree=$2 sources file changed units=()
	shift 2
	mapfile -t sources < <(library_of "$tree")
	for file in "${sources[@]}"; do
		for changed; do
			if [[ $file == "$changed" ]] ||
				grep -q "/$changed\b" "$work/$tool/library/${file//\//_}.d"; then
				units+=("$file")
				break
			fi
		done
	done
	compile "$tool" "$tree/$tool" "$tree" "${units[@]}"
}

# link_program TOOL NAME OUT [OBJECT...]: objects before the archive take its place.
link_program() {
	local tool=$1 name=$2 out=$3
	shift 3
	clang "${sanitize[$tool]}" -o "$out" "$work/$tool/$name"/*.o "$@" "$work/$tool/library.a" \
		"${libraries[@]}"
}

# ---- Running ---------------------------------------------------------------------

# arguments_of PROGRAM[+BACKEND]+SCENARIO ATTEMPT: what the program is started with.
arguments_of() {
	local scenario=${1##*+} backend=mock
	[[ $1 == *+* ]] || return 0
	[[ $1 != *+*+* ]] || backend=$(cut -d+ -f2 <<<"$1")
	echo --quiet --operations=100000 "--seed=$2" "--backend=$backend" "$scenario"
}

# run FILE PROGRAM SECONDS ATTEMPT: its exit status; its output in FILE.log.
run() {
	local status=0 arguments
	read -ra arguments <<<"$(arguments_of "$2" "$4")"
	# Braces: the shell would tell of a crash.
	{ bounded "$3" "$1" "${arguments[@]}" >"$1.log" 2>&1; } 2>/dev/null || status=$?
	return "$status"
}

row() {
	printf '%-20s %-24s %s\n' "$@"
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
	elif ((status == 139)) && [[ $log == */frozen/* ]]; then # SIGSEGV
		echo "a write to a published node"
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

# pass_clean TOOL:PROGRAM[:SECONDS]: the control of the control, the library as it is. In the
# same time, where a pair says how much.
pass_clean() {
	local tool program limit clean status=0
	IFS=: read -r tool program limit <<<"$1"
	clean=$work/$tool/clean-$program$limit
	link_program "$tool" "${program%%+*}" "$clean"
	run "$clean" "$program" "${limit:-300}" 1 || status=$?
	((status)) || return 0
	row "(none)" "$tool $program" "FALSE ALARM: $(verdict "$status" "$clean.log")"
	sed 's/^/    /' "$clean.log" | head -60
	return 1
}

# meet_pair NAME PAIR: a row of the table, and in `hits` how often it reported.
meet_pair() {
	local name=$1 tool program limit tries=$attempts status=0 how="" i faulty
	hits=0
	IFS=: read -r tool program limit <<<"${2%!}"
	[[ $2 != *! ]] || tries=$attempts_must
	faulty=$work/variant/$name/$tool/$program
	build_part "$tool:${program%%+*}"
	link_program "$tool" "${program%%+*}" "$faulty" "$work/variant/$name/$tool"/*.o
	for ((i = 1; i <= ${rate:-$tries}; i++)); do
		status=0
		run "$faulty" "$program" "${limit:-100}" "$i" || status=$?
		((status)) || continue
		hits=$((hits + 1))
		how=$(verdict "$status" "$faulty.log")
		[[ $rate ]] || break
	done
	if [[ $rate ]]; then
		how="$hits of $rate${how:+: $how}"
	fi
	row "$name" "$tool $program" "${how:-nothing, $tries times}"
}

# meet_variant PATCH: its rows, in a file beside its sources; fails if nothing reports.
meet_variant() {
	local name pair pairs changed tool hits missed=() caught=0 tree begun=$SECONDS
	name=$(basename "$1" .patch)
	tree=$work/variant/$name
	exec >"$tree.rows"
	if ! patch -s --no-backup-if-mismatch -p1 -d "$tree" <"$1"; then
		row "$name" "-" "THE PATCH DOES NOT APPLY"
		return 1
	fi
	mapfile -t changed < <(sed -n 's|^+++ b/\([^[:space:]]*\).*|\1|p' "$1")
	mapfile -t pairs < <(pairs_in_order "$1")
	for pair in "${pairs[@]}"; do
		[[ $pair == *! || $all ]] || ((!caught)) || break
		tool=${pair%%:*}
		build_part "$tool:library"
		[[ -d $tree/$tool ]] || compile_variant "$tool" "$tree" "${changed[@]}" ||
			{ row "$name" "-" "IT DOES NOT COMPILE"; return 1; }
		meet_pair "$name" "$pair"
		echo "${pair%!}" >>"$tree.used"
		if ((hits)); then
			caught=$((caught + 1))
		elif [[ $pair == *! ]]; then
			missed+=("$pair")
		fi
	done
	echo "$name: $((SECONDS - begun)) s" >&2
	((caught)) || row "$name" "-" "NOTHING CATCHES IT"
	for pair in "${missed[@]}"; do
		row "$name" "$pair" "MUST CATCH IT, AND DOES NOT"
	done
	((caught && !${#missed[@]}))
}

# ---- All of it -------------------------------------------------------------------

# pairs_of PATCH...
pairs_of() {
	sed -n 's/^caught-by: //p' "$@" | tr ' ' '\n'
}

# pairs_in_order PATCH: what must report first.
pairs_in_order() {
	pairs_of "$1" | grep '!$' || true
	pairs_of "$1" | grep -v '!$' || true
}

# surely_met PATCH...: the pairs that are tried whatever the others do.
surely_met() {
	local patch
	for patch; do
		if grep -q '^caught-by:.*!' "$patch"; then
			pairs_of "$patch" | grep '!$'
		else
			pairs_of "$patch" | head -n1
		fi
	done
}

patches=()
for patch in "$here"/*.patch; do
	name=$(basename "$patch" .patch)
	[[ $# -eq 0 || " $* " == *" $name "* ]] || continue
	[[ $(pairs_of "$patch") ]] || { echo "$patch: no line caught-by"; exit 1; }
	patches+=("$patch")
	mkdir -p "$work/variant/$name"
	cp -r "$source/src" "$work/variant/$name/src"
done
mapfile -t parts < <(surely_met "${patches[@]}" | cut -d: -f1,2 |
	sed 's/!$//; s/+.*//; p; s/:.*/:library/' | sort -u)
in_parallel "$jobs" build_part "${parts[@]}"
((failed == 0)) || exit 1
in_parallel "$jobs" meet_variant "${patches[@]}"
uncaught=$failed
mapfile -t programs < <(cat "$work"/variant/*.used | sort -u)
in_parallel "$jobs" pass_clean "${programs[@]}"
{
	row VARIANT "CAUGHT BY" HOW
	for patch in "${patches[@]}"; do
		cat "$work/variant/$(basename "$patch" .patch).rows"
	done
	row "$((${#patches[@]} - uncaught)) of ${#patches[@]}" "variants caught" ""
} | tee "$work/table"
if ((failed)); then
	echo "$failed failures"
	exit 1
fi
printf 'the library as it is passes %s\n' "${programs[@]}"
