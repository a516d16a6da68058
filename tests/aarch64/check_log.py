#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_log.py [LOG]: rules that can be told from the events of AArch64 tables alone.

Rebuilds the tables' memory from the log and checks, in order of the lines:
 1. a table that is retired is pointed to by no valid descriptor;
 2. neither is a frame that is retired, by any leaf; and stores go to tables only;
 3. between the last store that took a leaf or a pointer away and a retirement
    lie, in this order, a barrier, an invalidation and a barrier for all;
 4. before an ISB nothing stored or invalidated is without its barrier.
Knows nothing of descriptors but bits 1 and 0 and, for 4K granules below 2^48, the address.
"""
import sys

ADDRESS = 0xfffffffff000


def fail(number, line, what):
    sys.exit(f"line {number}: {line}: {what}")


def main():
    memory, tables = {}, set()
    # Of what was taken away: 0 nothing, 1 stored, 2 ordered, 3 invalidated, 4 completed.
    gone = 0
    stored = invalidated = False
    events = {}
    before = None
    for number, line in enumerate(open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        event, *words = line.split()
        events[event] = events.get(event, 0) + 1
        if event == "alloc" and words[0] != "none":
            base = int(words[0], 0)
            tables.add(base)
            for at in range(base, base + int(words[1]), 8):
                memory.pop(at, None)
        elif event in ("store", "swap"):
            at, value = int(words[0], 0), int(words[-1], 0)
            before = at, memory.get(at, 0), gone
            if at & ~0xfff not in tables:
                fail(number, line, "not in a table")
            if before[1] & 1 and before[1] != value:
                gone = 1
            memory[at] = value
            stored = True
        elif event == "swap-lost":
            memory[before[0]], gone = before[1], before[2]
        elif event == "load":
            # The processor may have noted an access.
            memory[int(words[0], 0)] = int(words[1], 0)
        elif event == "dsb":
            stored = False
            if gone == 1:
                gone = 2
            if words[0] == "all":
                invalidated = False
                if gone == 3:
                    gone = 4
        elif event == "tlbi":
            invalidated = True
            if gone == 2:
                gone = 3
        elif event == "isb":
            if stored or invalidated:
                fail(number, line, "something waits for its barrier")
        elif event in ("retire", "frame-retire"):
            first = int(words[0], 0)
            if gone in (1, 2, 3):
                fail(number, line, "before the invalidation has completed")
            for at, value in memory.items():
                if value & 1 and first <= value & ADDRESS < first + int(words[1]):
                    fail(number, line, f"still in use at {at:#x}")
            if event == "retire":
                tables.discard(first)
                for at in range(first, first + int(words[1]), 8):
                    memory.pop(at, None)
        elif event == "free":
            tables.discard(int(words[0], 0))
            for at in range(int(words[0], 0), int(words[0], 0) + int(words[1]), 8):
                memory.pop(at, None)
    for event in ("alloc", "retire", "frame-retire", "tlbi", "dsb", "isb", "swap"):
        if not events.get(event):
            sys.exit(f"the log has no {event}")
    print(", ".join(f"{count} {event}" for event, count in sorted(events.items())))


main()
