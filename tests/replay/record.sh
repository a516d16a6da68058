#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Records programs of many kinds with many of strace's options, in a file and on a
# terminal, and replays every recording on the mock and on the host.
#
#     record.sh REPLAY RECORDED [all]
#
# Without "all", each program with one set of options; with it, with every one.
set -u

replay=$1
recorded=$2
all=${3-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

if ! strace -o /dev/null true 2>/dev/null; then
	echo "SKIPPED: strace is not here, or may not trace"
	exit 77
fi

cat >"$work/a.c" <<'EOF'
#include <stdio.h>
int main(void) { for (int i = 0; i < 10; i++) printf("%d\n", i); return 0; }
EOF
seq 50000 >"$work/numbers"

# One program a line: the command that must be there, and what is run.
programs=(
	"true|true"
	"sh|seq 20 | while read -r x; do echo \$x; done | sort | wc -l"
	"perl|perl -e 'for (1..3) { if (!fork) { my @a = (1..20000); print scalar(@a), qq(\\n); exit } } 1 while wait > 0'"
	"python3|python3 -c 'import threading; t = [threading.Thread(target=lambda: [bytearray(300000) for i in range(50)]) for i in range(4)]; [x.start() for x in t]; [x.join() for x in t]; print(1)'"
	"awk|awk 'BEGIN { for (i = 0; i < 50000; i++) a[i] = i \"x\"; print length(a) }'"
	"sort|sort --parallel=4 -S 8M -r $work/numbers | tail -n 1"
	"tar|tar -C $work -czf $work/a.tgz numbers a.c && tar -tzf $work/a.tgz"
	"gcc|gcc -O1 -o $work/a $work/a.c && $work/a"
	"clang|clang -O1 -c -o $work/a.o $work/a.c"
	"cmake|cmake -P /dev/null"
	"xz|xz -T2 -k -f -1 $work/numbers"
	"git|git -c init.defaultBranch=x init -q $work/git && git -C $work/git status"
	"sqlite3|sqlite3 :memory: 'create table t(a); with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000) insert into t select x from n; select count(*) from t'"
	"java|java -Xint -version"
	"node|node -e 'console.log([1, 2, 3].map(x => x * x))'"
	"true|$recorded threads"
	"true|$recorded children"
	"true|$recorded thread-exec"
	"true|$recorded segments"
)

# One set of options a line. "complete": nothing is missed in it, not even what a filter leaves
# out; "quiet": what programs print stands in no line, so that on a terminal it
# is not strace's (--lenient).
options=(
	"complete|"
	"complete|-tt -T -y"
	"complete|-r -n -x"
	"complete|-ttt -yy -v -s 200"
	"complete|-X raw"
	"complete|-X verbose -q"
	"complete|-Y -t"
	"complete|-C"
	"complete|-C -w -U name,calls,max-time,time-percent"
	"complete|-i -e write=1 -e signal=none"
	"complete|-e inject=madvise:retval=0:when=2+3"
	"complete|-a 60 -z -qq"
	"quiet|-e trace=%memory,%process"
	"quiet|-e trace=%memory,%process,%ipc -e raw=mmap,munmap,clone,mprotect"
	"quiet|-e trace=%memory"
	"quiet|-k -e trace=munmap,brk,execve,clone,clone3,vfork"
	"quiet|--decode-pids=pidns -e trace=%memory,%process -e quiet=attach,exit"
)

failures=0
recordings=0
lost=0
declare -A seen_programs seen_options
left_out=

# play RECORDING WHAT KIND [OPTION...]
play() {
	local file=$1 what=$2 kind=$3 backend status

	shift 3
	for backend in mock host; do
		timeout 120 "$replay" --backend=$backend --readers=1 "$@" "$file" \
			>"$work/out" 2>&1 </dev/null
		status=$?
		# Where output has run into a memory call, and no call says what was printed, there is
		# no telling the two apart: then it must be said.
		if ((status == 2)) && [[ $kind == quiet && $what == *terminal ]] &&
			grep -q 'mismatches  0' "$work/out" &&
			grep -q 'not read, and may concern memory' "$work/out"; then
			lost=$((lost + 1))
		elif ((status)); then
			echo "FAILED: $what on $backend:"
			head -n 8 "$work/out" | cut -c 1-200
			failures=$((failures + 1))
			cp "$file" "$(mktemp "${TMPDIR:-/tmp}/replay-failed-XXXXXX.strace")"
			return
		fi
	done
	if [[ $kind == complete ]] && ! grep -q ' 0 missed maps, 0 missed unmaps' "$work/out"; then
		echo "FAILED: $what: something was missed:"
		grep assumed "$work/out"
		failures=$((failures + 1))
		cp "$file" "$(mktemp "${TMPDIR:-/tmp}/replay-failed-XXXXXX.strace")"
	fi
}

# record PROGRAM OPTIONS - both as they stand in the lists.
record() {
	local run=${1#*|} kind=${2%%|*} flags=${2#*|} lenient=()

	seen_programs[$1]=1
	seen_options[$2]=1
	recordings=$((recordings + 2))
	# shellcheck disable=SC2086 # several options
	timeout 120 strace -f $flags -o "$work/file" sh -c "$run" >/dev/null 2>&1 </dev/null
	play "$work/file" "strace $flags, $run, in a file" "$kind"
	[[ $kind == complete ]] || lenient=(--lenient)
	printf '%s\n' "$run" >"$work/run.sh"
	timeout 120 script -qec "strace -f $flags sh $work/run.sh" "$work/terminal" \
		>/dev/null 2>&1 </dev/null
	play "$work/terminal" "strace $flags, $run, on a terminal" "$kind" "${lenient[@]}"
}

for i in "${!programs[@]}"; do
	if ! command -v "${programs[i]%%|*}" >/dev/null; then
		left_out+=" ${programs[i]%%|*}"
		continue
	fi
	for j in "${!options[@]}"; do
		if [[ -n $all ]] || ((j == i % ${#options[@]})); then
			record "${programs[i]}" "${options[j]}"
		fi
	done
done

echo "$recordings recordings of ${#seen_programs[@]} programs with ${#seen_options[@]} sets of options"
((lost == 0)) || echo "$lost times output ran into a memory call, and it was said"
[[ -z $left_out ]] || echo "not here:$left_out"
((failures == 0)) && echo "all fine"
exit $((failures != 0))
