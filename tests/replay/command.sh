#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The replay command from outside: what it exits with and what it says.
#
#     command.sh REPLAY TRACES RECORDED
set -u

command=$1
traces=$2
recorded=$3
# shellcheck source=tests/command.sh
. "$(dirname "$0")/../command.sh"

echo "usage"
expect 0 '^usage: replay' --help
expect 2 'no trace is named' --backend=null
expect 2 'unrecognized option' --nonsense "$traces/clang.strace"
expect 2 'unknown' --backend=tape "$traces/clang.strace"
expect 2 'not a number from 0 to 1024' --readers=many "$traces/clang.strace"
expect 2 'not a number from 1' --repeat=0 "$traces/clang.strace"
expect 2 'not a time' --seconds=soon "$traces/clang.strace"
expect 2 'not a power of two' --page-size=5000 "$traces/clang.strace"
expect 2 'is for --record' --save=x "$traces/clang.strace"
expect 2 'needs a program' --record
expect 2 'has pages of 4096' --backend=aarch64 --page-size=8192 "$traces/clang.strace"
expect 2 'is for --backend=host' --inject-mismatch=kernel "$traces/clang.strace"

echo "bad input"
expect 2 'No such file' "$work/none.strace"
printf '1 brk(NULL) = 0x1000\n1 mmap(NULL, 4096\n' >"$work/bad.strace"
expect 2 "$work/bad.strace:2: the arguments have no end" "$work/bad.strace"
printf '1 mmap(NULL, 0x700000000000000, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000\n' >"$work/big.strace"
expect 2 'more than any window can hold' "$work/big.strace"
printf '' >"$work/empty.strace"
expect 2 "$work/empty.strace: .*nothing to replay" "$work/empty.strace"
printf '1 execve("/bin/x", ["x"], 0x7ffc /* 1 var */) = 0\n1 munmap(0x1000, 4096) = -1 EINVAL (Invalid argument)\n1 +++ exited with 0 +++\n' \
	>"$work/idle.strace"
expect 2 'nothing to replay' "$work/idle.strace"
"$command" "$work/idle.strace" 2>/dev/null | grep -q . && {
	echo "FAILED: a summary of nothing"
	failures=$((failures + 1))
}
# One bad trace of two: the other is played, and the exit says the worse.
expect 2 'mismatches  0' --backend=null "$work/bad.strace" "$traces/clang.strace"

echo "lenient"
printf '1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000\nhello\nhello again\n' \
	>"$work/talk.strace"
expect 2 "$work/talk.strace:2: neither a call" --backend=null "$work/talk.strace"
expect 0 'skipped  *2 lines .* 0 may concern memory' --backend=null --lenient "$work/talk.strace"
expect 0 '2: neither a call.*first in line 2: hello' --backend=null -l --brief "$work/talk.strace"
printf '1 munmap(0x1000, 40hello\n96) = 0\n' >>"$work/talk.strace"
expect 2 'mismatches  0' --backend=null --lenient "$work/talk.strace"
expect 2 "$work/talk.strace:4: not read, and may concern memory; 1 such line in all" \
	--backend=null --lenient --quiet "$work/talk.strace"
# One that has nothing else.
printf 'hello\n1 munmap(0x1000, 40hello\n' >"$work/lost.strace"
expect 2 "$work/lost.strace:2: not read" --backend=null --lenient "$work/lost.strace"
expect 2 'nothing to replay' --backend=null --lenient "$work/lost.strace"

echo "brief"
expect 0 '0 mismatches' --backend=null --brief "$traces/clang.strace"
[ "$(wc -l <"$work/out")" -eq 3 ] || complain "--brief is not brief"

echo "answers"
expect 0 'mismatches  0' --backend=mock --readers=3 --seed=7 "$traces/clang.strace"
expect 0 'mismatches  0' --backend=null --readers=0 "$traces/java.strace"
"$command" -b null - <"$traces/clang.strace" | grep -q 'standard input' || {
	echo "FAILED: the standard input"
	failures=$((failures + 1))
}

echo "overlap"
"$command" -b null --overlaps=100 --json=- "$traces/clang.strace" >"$work/json" ||
	failures=$((failures + 1))
overlapping=$(sed -n 's/.*"overlapping": \([0-9]*\).*/\1/p' "$work/json")
if [ "${overlapping:-0}" -lt 100 ]; then
	echo "FAILED: only ${overlapping:-0} lookups overlapped an operation"
	failures=$((failures + 1))
fi
if command -v python3 >/dev/null && ! python3 -m json.tool "$work/json" >/dev/null; then
	echo "FAILED: --json is not JSON"
	failures=$((failures + 1))
fi

echo "controls"
for what in history model library; do
	# Until it is found, which it is in the first passes.
	expect 1 'mismatch: ' --backend=null --quiet --repeat=100000 --inject-mismatch=$what \
		"$traces/clang.strace"
done

# Where nobody looks, nothing is met; where nothing is left, nothing can be falsified.
expect 1 'invariant 307 .* other flags' --backend=aarch64 --quiet --inject-mismatch=kernel \
	"$traces/clang.strace"
expect 1 'inject-mismatch=history: no look has met it' --backend=null --quiet --readers=0 \
	--inject-mismatch=history "$traces/clang.strace"
printf '1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x1000\n1 munmap(0x1000, 4096) = 0\n' \
	>"$work/brief.strace"
expect 0 'mismatches  0' --backend=null "$work/brief.strace"
expect 1 'inject-mismatch=library: there was nothing' --backend=null --quiet \
	--inject-mismatch=library "$work/brief.strace"

echo "interruption"
interrupt 3 'mismatches  0' -b null --repeat=1000000000000 "$traces/clang.strace"

echo "output that cannot be written"
"$command" -b null "$work/brief.strace" >/dev/full 2>"$work/out"
got=$?
if [ $got -ne 2 ] || ! grep -q 'standard output: not written' "$work/out"; then
	echo "FAILED: a full disk: exit $got"
	failures=$((failures + 1))
fi

echo "memory"
# A terabyte, more than the mock is told to take.
printf '1 mmap(NULL, 0x10000000000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7000000000\n' \
	>"$work/vast.strace"
expect 2 'ASPACE_NO_MEMORY' --backend=mock "$work/vast.strace"
# At once: page by page, a window of this size would take hours to look through.
printf 'mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000\nbrk(NULL) = 0x100000\n%s\n' \
	'brk(0x80000000100000) = 0x80000000100000' >"$work/vaster.strace"
expect 2 'ASPACE_NO_MEMORY' --backend=mock "$work/vaster.strace"
expect 2 'mismatches  0' --backend=mock "$work/vast.strace"
expect 0 'mismatches  0' --backend=null "$work/vast.strace"

echo "recording"
env PATH=/nonexistent "$command" --record -- /bin/true >"$work/out" 2>&1
if [ $? -ne 2 ] || ! grep -q 'apt-get install strace' "$work/out"; then
	echo "FAILED: strace is missing, and it does not say so:"
	sed 's/^/    /' "$work/out"
	failures=$((failures + 1))
fi
# A strace that writes what cannot be read: messages name the trace, which is kept.
mkdir "$work/bin" "$work/tmp"
# shellcheck disable=SC2016 # for the inner shell
printf '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho nonsense >"$2"\n' >"$work/bin/strace"
chmod +x "$work/bin/strace"
env PATH="$work/bin:$PATH" TMPDIR="$work/tmp" "$command" --record -- /bin/true >"$work/out" 2>&1
if [ $? -ne 2 ] || ! grep -q "^replay: $work/tmp/replay-.*strace:1: neither a call" "$work/out" ||
	! grep -q "the trace of /bin/true is kept: $work/tmp/replay-" "$work/out" ||
	[ "$(cat "$work/tmp"/replay-*.strace)" != nonsense ]; then
	complain "a recording that cannot be read is not named, or not kept"
fi
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
	expect 2 'recorded nothing' --record -- /nonexistent/program
	expect 0 'mismatches  0' --backend=null --record --save="$work/saved" -- sh -c 'true | true'
	expect 0 'mismatches  0' --backend=null "$work/saved"
	# Its execve is by a thread that is not the first.
	expect 0 'mismatches  0' --backend=null --record -- "$recorded" thread-exec
	# ^C, to replay alone, from a program that would not end by itself.
	# shellcheck disable=SC2016 # for the inner shells
	if grep -q __tsan_init "$command"; then
		echo "    (^C while recording is not tried: ThreadSanitizer keeps signals back in waitid)"
	elif sh -c 'echo $$ >"$1/pid"; exec "$2" --backend=null --record -- \
		sh -c "kill -INT \$(cat \"$1/pid\"); exec sleep 1000"' - "$work" "$command" \
		>"$work/out" 2>&1; [ $? -ne 130 ] || ! grep -q 'mismatches  0' "$work/out"; then
		echo "FAILED: ^C while recording:"
		sed 's/^/    /' "$work/out"
		failures=$((failures + 1))
	fi
else
	echo "    (no strace, or it may not trace: only its absence is tested)"
fi

finish
