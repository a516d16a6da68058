#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py SOURCE_DIR [OBJECT_DIR...]

Dependencies point down: which room of src/ includes which, from the sources; and, where
OBJECT_DIR has the objects of the library (CMake's, with the folders of src/), which calls which.
Prints the graph and the exceptions; exit 1 if an edge points up, or an exception is not needed.

check.py --inject SOURCE_DIR   adds an include that points up to a copy of the sources, for each
room in turn: each must be found.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

# From the bottom to the top: a room may include those above it in this list, which lie below it.
# The longest prefix of a file's path says in which room it is.
LAYERS = [
    ("interface", "include/aspace/"),
    ("options", "src/options.h"),  # structures that carry their size
    ("platform", "src/platform/"),
    ("memory", "src/memory/"),
    ("tree", "src/tree/"),
    ("space.h", "src/space/space.h"),  # the struct that the four rooms above work on
    ("read", "src/read/"),
    ("update", "src/update/"),
    ("reclaim", "src/reclaim/"),
    ("space", "src/space/"),  # a space's life
]

# Beside these: what each may include, besides itself.
BESIDE = [
    ("linux", "src/platform/linux/", ["interface", "platform"]),
    ("bare", "src/platform/bare/", ["interface", "platform"]),
    ("null", "src/backend/null.c", ["interface", "options"]),
    ("mock", "src/backend/mock/", ["interface", "options"]),
    ("host", "src/backend/host/", ["interface", "options"]),
    ("aarch64", "src/backend/aarch64/", ["interface", "options"]),
    ("stress", "stress/", ["interface"]),
    ("examples", "examples/", ["interface"]),
]

# FILE, what it includes, why it may.
EXCEPTIONS = [
    ("src/platform/platform.h", "src/platform/linux/hosted.h",
     "one of the two platforms: what is inlined of it"),
    ("src/platform/platform.h", "src/platform/bare/bare_metal.h",
     "one of the two platforms: what is inlined of it"),
    ("stress/bench/aspace.c", "src/read/lookup_named.h",
     "picks the registers to search by, which is for measurements alone and so not public"),
]

# All but these use headers of free-standing C, and those of vector registers.
HOSTED = {"linux", "mock", "host", "stress", "examples"}
FREESTANDING = {"stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "limits.h",
                "immintrin.h", "arm_neon.h"}
# By calls the rooms that work on the struct are one: what they call in one another is declared
# in space.h and their own headers.
ONE = {"space.h", "read", "update", "reclaim", "space"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)', re.M)
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def room_of(path):
    best = None
    for room in LAYERS + [beside[:2] for beside in BESIDE]:
        if path.startswith(room[1]) and (best is None or len(room[1]) > len(best[1])):
            best = room
    return best[0] if best else None


def allowed_of(room):
    for name, _, allowed in BESIDE:
        if name == room:
            return set(allowed)
    names = [name for name, _ in LAYERS]
    return set(names[:names.index(room)])


def sources(root):
    for top in ("include", "src", "stress", "examples"):
        for folder, _, files in sorted(os.walk(os.path.join(root, top))):
            for name in sorted(files):
                if name.endswith((".c", ".h", ".cc")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def resolve(root, path, name):
    for folder in (os.path.dirname(path), "src", "stress", "stress/common"):
        found = os.path.normpath(os.path.join(folder, name))
        if os.path.exists(os.path.join(root, found)):
            return found
    return None


class Check:
    def __init__(self, root):
        self.root = root
        self.edges = {}  # (room, room): how many includes
        self.calls = {}
        self.problems = []
        self.used = set()

    def problem(self, text):
        self.problems.append(text)

    def edge(self, path, target):
        room, other = room_of(path), room_of(target)
        if room is None or other is None:
            self.problem(f"{path}: in no room that this test knows, or {target} is")
            return
        if room == other:
            return
        self.edges[room, other] = self.edges.get((room, other), 0) + 1
        if other in allowed_of(room):
            return
        for exception in EXCEPTIONS:
            if exception[:2] == (path, target):
                self.used.add(exception)
                return
        self.problem(f"{path} ({room}) includes {target} ({other}), which does not lie below it")

    def includes(self):
        for path in sources(self.root):
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                text = COMMENT.sub("", file.read())
            for quoted, angular in INCLUDE.findall(text):
                if quoted:
                    target = resolve(self.root, path, quoted)
                    if target is None:
                        self.problem(f'{path}: where is "{quoted}"?')
                    else:
                        self.edge(path, target)
                elif angular.startswith("aspace/"):
                    self.edge(path, "include/" + angular)
                elif room_of(path) not in HOSTED and angular not in FREESTANDING:
                    self.problem(f"{path}: <{angular}> is no header of free-standing C")
        for exception in EXCEPTIONS:
            if exception not in self.used:
                self.problem(f"{exception[0]} does not include {exception[1]}: no exception")

    def objects(self, folder):
        """Which room calls which; internal names only: aspace_... is the interface."""
        defined, undefined, visible = {}, [], {}
        for at, _, files in sorted(os.walk(folder)):
            for name in sorted(files):
                if not name.endswith(".o"):
                    continue
                path = "src/" + os.path.relpath(os.path.join(at, name), folder)[:-len(".o")]
                if not os.path.exists(os.path.join(self.root, path)):
                    continue  # of a build before the file went
                listing = subprocess.run(["nm", os.path.join(at, name)], check=True,
                                         capture_output=True, text=True).stdout
                for line in listing.splitlines():
                    kind, symbol = line.split()[-2:]
                    if not symbol.startswith("asp_"):
                        continue
                    if kind in "Uw":
                        undefined.append((path, symbol))
                    else:
                        defined[symbol] = path
                        if kind.isupper():  # not of one file alone
                            visible[symbol] = path
        self.unused(visible, {symbol for _, symbol in undefined})
        for path, symbol in undefined:
            room, target = room_of(path), defined.get(symbol)
            if target is None:
                self.problem(f"{path}: {symbol} is not in {folder}")
                continue
            other = room_of(target)
            # The platform's interface is one of its two implementations.
            if room == other or (room in ONE and other in ONE):
                continue
            self.calls[room, other] = self.calls.get((room, other), 0) + 1
            below = allowed_of(room)
            if other not in below and not (other == "linux" and "platform" in below):
                self.problem(f"{path} ({room}) uses {symbol} of {target} ({other}), which does "
                             "not lie below it")

    def unused(self, visible, wanted):
        """What nothing in the library uses would be there for tests or measurements alone."""
        for symbol, path in sorted(visible.items()):
            if symbol in wanted:
                continue
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                text = COMMENT.sub("", file.read())
            if len(re.findall(rf"\b{symbol}\b", text)) < 2:
                self.problem(f"{path}: nothing in the library uses {symbol}")

    def show(self):
        names = [name for name, _ in LAYERS] + [beside[0] for beside in BESIDE]
        for title, edges in (("includes", self.edges), ("uses symbols of", self.calls)):
            if not edges:
                continue
            print(f"{title}:")
            for name in reversed(names):
                to = [f"{other} {edges[name, other]}" for other in names if (name, other) in edges]
                if to:
                    print(f"  {name:10} {', '.join(to)}")
        for path, target, reason in EXCEPTIONS:
            print(f"exception: {path} includes {target}: {reason}")
        for problem in self.problems:
            print(problem)


# FILE, a header that does not lie below it.
INJECTED = [
    ("src/options.h", "platform/platform.h"),
    ("src/platform/linux/lock.c", "memory/pool.h"),
    ("src/platform/bare/bare_metal.c", "platform/linux/hosted.h"),
    ("src/memory/record.h", "tree/node.h"),
    ("src/tree/read.c", "space/space.h"),
    ("src/tree/vector/body.h", "read/lookup.h"),
    ("src/space/space.h", "read/lookup.h"),
    ("src/read/reader.c", "update/plan.h"),
    ("src/backend/null.c", "tree/tree.h"),
    ("src/backend/mock/mock.c", "platform/platform.h"),
    ("src/backend/host/map.c", "space/space.h"),
    ("src/backend/host/host.c", "backend/aarch64/geometry.h"),
    ("src/backend/aarch64/map.c", "memory/pool.h"),
    ("stress/torture.c", "space/space.h"),
    ("examples/snapshot.c", "../src/tree/node.h"),
    ("include/aspace/aspace.h", "../../src/options.h"),
    ("src/tree/dump.c", "<stdio.h>"),
]


def inject(root):
    missed = 0
    with tempfile.TemporaryDirectory() as work:
        for top in ("include", "src", "stress", "examples"):
            shutil.copytree(os.path.join(root, top), os.path.join(work, top))
        for path, name in INJECTED:
            full = os.path.join(work, path)
            if not os.path.exists(full):  # by another name now: any file of the folder will do
                folder = os.path.dirname(full)
                full = os.path.join(folder, sorted(os.listdir(folder))[0])
            with open(full, encoding="utf-8") as file:
                before = file.read()
            line = name if name.startswith("<") else f'"{name}"'
            with open(full, "a", encoding="utf-8") as file:
                file.write(f"#include {line}\n")
            check = Check(work)
            check.includes()
            with open(full, "w", encoding="utf-8") as file:
                file.write(before)
            if len(check.problems) == 1:
                print(f"found: {check.problems[0]}")
            else:
                print(f"{path}, {name}: {len(check.problems)} findings, not 1")
                missed += 1
    return 1 if missed else 0


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--inject":
        return inject(arguments[1])
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    check = Check(arguments[0])
    check.includes()
    for folder in arguments[1:]:
        check.objects(folder)
    check.show()
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
