#!/bin/bash
# SPDX-License-Identifier: MIT
#
# timing.sh REPLAY TRACES: replay --time from outside. What it says, not how long it takes.
set -uo pipefail

command=$1
traces=$2
# shellcheck source=tests/command.sh
. "$(dirname "$0")/../command.sh"

expect 2 'time is for --backend=host' --time --backend=mock "$traces/clang.strace"
expect 2 'checks no answers' --time --inject-mismatch=model "$traces/clang.strace"
for trace in "$traces"/*.strace; do
	expect 0 'own share: ' --time "$trace"
	! grep -q ': 0 operations' "$work/out" || complain "nothing measured"
done

"$command" --time --json="$work/json" "$traces"/*.strace >"$work/out" ||
	complain "all traces"
python3 - "$work/json" <<'EOF' || failures=$((failures + 1))
import json, sys

lines = json.load(open(sys.argv[1]))
for line in lines:
    each = line["ns_each"]
    if line["passes"] < 3 or not all(each[way] > 0 for way in ("kernel", "backend", "library")):
        sys.exit(f"FAIL: {line}")
print(f"{len(lines)} traces")
EOF

# Every way and kind of step: a fork's beginning, a move, growth in place and its undoing.
cat >"$work/kinds.strace" <<'EOF'
1 execve("/bin/x", ["x"], 0x7ffc /* 1 var */) = 0
1 brk(NULL) = 0x555500000000
1 brk(0x555500021000) = 0x555500021000
1 mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
1 mprotect(0x7f0000004000, 8192, PROT_READ) = 0
1 mremap(0x7f0000008000, 4096, 8192, MREMAP_MAYMOVE) = 0x7f0000100000
1 mremap(0x7f0000100000, 8192, 16384, MREMAP_MAYMOVE) = 0x7f0000100000
1 mremap(0x7f0000100000, 16384, 4096, 0) = 0x7f0000100000
1 fork() = 2
2 mmap(0x7f0000000000, 65536, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
2 munmap(0x7f0000100000, 4096) = 0
2 +++ exited with 0 +++
1 munmap(0x7f0000000000, 65536) = 0
1 +++ exited with 0 +++
EOF
expect 0 'own share: ' --time "$work/kinds.strace"

# A refusal is told, and ends it: the window is more than the process may have.
printf '1 mmap(NULL, 0x7ff000000000, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000\n' \
	>"$work/large.strace"
expect 1 'large.strace:1: library, begin' --time "$work/large.strace"

# ^C ends it with what there is.
interrupt 1 . --time --repeat=1000000000000 "$traces/clang.strace"

finish
