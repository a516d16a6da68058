#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_log.py [LOG]: rules that can be told from the events of AArch64 tables alone.

Rebuilds the tables' memory from the log and checks, in order of the lines:
 1. a table that is retired is pointed to by no valid descriptor;
 2. neither is a frame that is retired, by any leaf; and stores go to tables only;
 3. between the last store that took a leaf or a pointer away and a retirement
    lie, in this order, a barrier, an invalidation and a barrier for all;
 4. before an ISB nothing stored or invalidated is without its barrier;
 5. where there is a clean, each store is followed by its own, and a table becomes reachable
    only after a barrier for the system that came after the last clean in it, or below it.
Knows nothing of descriptors but bits 1 and 0 and, for 4K granules below 2^48, the address.
"""
import sys

ADDRESS = 0xfffffffff000
IGNORED = 0xff << 51


def fail(number, line, what):
    sys.exit(f"line {number}: {line}: {what}")


def main():
    lines = list(open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin)
    memory, tables = {}, set()
    # Of what was taken away: 0 nothing, 1 stored, 2 ordered, 3 invalidated, 4 completed.
    gone = 0
    stored = invalidated = False
    events = {}
    before = None
    # Tables that walks reach, and those with a clean that no barrier has completed; the store
    # that is still to be cleaned.
    root, reached, cleaning, dirty = None, set(), set(), None
    fresh = set()  # never cleaned as a whole
    cleans = any(line.startswith("clean ") for line in lines)

    def reach(number, line, table):
        if table in reached:
            return
        if table in cleaning:
            fail(number, line, f"links {table:#x} before its cleaning has completed")
        if cleans and table in fresh:
            fail(number, line, f"links {table:#x}, which was not cleaned")
        reached.add(table)
        for at in range(table, table + 4096, 8):
            value = memory.get(at, 0)
            if value & 3 == 3 and value & ADDRESS in tables:
                reach(number, line, value & ADDRESS)

    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        event, *words = line.split()
        events[event] = events.get(event, 0) + 1
        if event == "alloc" and words[0] != "none":
            base = int(words[0], 0)
            tables.add(base)
            fresh.add(base)
            # The first page is for the structure, the next one the root.
            if len(tables) == 2 and root is None:
                root = base
                reached.add(root)
            for at in range(base, base + int(words[1]), 8):
                memory.pop(at, None)
        elif event in ("store", "swap"):
            at, value = int(words[0], 0), int(words[-1], 0)
            before = at, memory.get(at, 0), gone
            if at & ~0xfff not in tables:
                fail(number, line, "not in a table")
            # Bits 58 to 51 of a pointer to a table are ignored; of what is invalid, all but bit 0.
            pointer = before[1] & value & 3 == 3 and before[1] & ADDRESS in tables
            told = (before[1] ^ value) & ~IGNORED if pointer else before[1] != value
            told = told and (before[1] | value) & 1
            if told and before[1] & 1:
                gone = 1
            memory[at] = value
            stored = stored or told
            if cleans and dirty is not None:
                fail(number, line, f"the store before it, to {dirty:#x}, was not cleaned")
            dirty = at
            if at & ~0xfff in reached and value & 3 == 3 and value & ADDRESS in tables:
                reach(number, line, value & ADDRESS)
        elif event == "clean":
            first = int(words[0], 0)
            cleaning.add(first & ~0xfff)
            if int(words[1]) >= 4096:
                fresh.discard(first)
            if dirty is not None and first <= dirty < first + int(words[1]):
                dirty = None
        elif event == "swap-lost":
            memory[before[0]], gone = before[1], before[2]
            dirty = None
        elif event == "load":
            # The processor may have noted an access.
            memory[int(words[0], 0)] = int(words[1], 0)
        elif event == "dsb":
            if words[0] == "system":
                cleaning.clear()
            if cleans and words[0] == "stores":
                fail(number, line, "a barrier that waits for no clean")
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
                reached.discard(first)
                for at in range(first, first + int(words[1]), 8):
                    memory.pop(at, None)
        elif event == "free":
            tables.discard(int(words[0], 0))
            reached.discard(int(words[0], 0))
            for at in range(int(words[0], 0), int(words[0], 0) + int(words[1]), 8):
                memory.pop(at, None)
    for event in ("alloc", "retire", "frame-retire", "tlbi", "dsb", "isb", "swap"):
        if not events.get(event):
            sys.exit(f"the log has no {event}")
    print(", ".join(f"{count} {event}" for event, count in sorted(events.items())))


main()
