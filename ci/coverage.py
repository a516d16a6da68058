# SPDX-License-Identifier: MIT
"""What ci/coverage prints.

    coverage.py [-v] ROOT UNTAKEN JSON...

A branch is taken if one of the counts says so. UNTAKEN lists branches that need not be
taken: "FILE: BRANCHES: TEXT", the text being the line of the source without its
indentation, and indented lines below with the reason. A line that the list has and the source has not
is an error: the list is out of date.
"""

import json
import sys


def read_counts(paths):
    counts = {}
    for path in paths:
        for file in json.load(open(path))["files"]:
            lines = counts.setdefault(file["file"], {})
            for line in file["lines"]:
                new = [branch["count"] for branch in line["branches"]]
                old = lines.get(line["line_number"], [])
                # A count that does not add up is left out, and the rest moves up: what is
                # longer is whole.
                if len(old) != len(new):
                    lines[line["line_number"]] = max(old, new, key=len)
                else:
                    lines[line["line_number"]] = [max(pair) for pair in zip(old, new)]
    return counts


def read_untaken(path):
    listed = {}
    for line in open(path):
        if line.strip() and line[0] not in "#\t ":
            file, branches, text = line.rstrip("\n").split(": ", 2)
            listed[file, text] = int(branches)
    return listed


OPERATIONS = ("src/read/", "src/reclaim/", "src/space/", "src/update/")


def main():
    arguments = sys.argv[1:]
    verbose = arguments[0] == "-v"
    root, untaken_path, *paths = arguments[verbose:]
    listed = read_untaken(untaken_path)
    unused = set(listed)
    groups = {"src/tree": [0, 0, 0], "operations": [0, 0, 0], "all of src": [0, 0, 0]}

    print("%-36s %8s %8s %12s" % ("", "taken", "of", "listed"))
    for file, lines in sorted(read_counts(paths).items()):
        source = open(root + "/" + file).read().split("\n")
        taken = branches = asserted = 0
        for number, counts in sorted(lines.items()):
            text = source[number - 1].strip()
            missed = sum(count <= 0 for count in counts)
            # Lines that read alike share what is listed for them.
            allowed = min(missed, listed.get((file, text), 0))
            unused.discard((file, text))
            if allowed:
                listed[file, text] -= allowed
            taken += len(counts) - missed
            branches += len(counts)
            asserted += allowed
            if verbose and missed > allowed:
                print("%s:%d: %d of %d branches: %s" % (file, number, missed - allowed, len(counts), text))
        print("%-36s %8d %8d %12d" % (file, taken, branches, asserted))
        for name, sums in groups.items():
            if (name == "all of src" or file.startswith("src/tree/") and name == "src/tree" or
                    file.startswith(OPERATIONS) and name == "operations"):
                for i, value in enumerate((taken, branches, asserted)):
                    sums[i] += value
    complete = True
    for name, (taken, branches, asserted) in groups.items():
        counted = branches - asserted
        print("%s: %d of %d branches (%.1f %%), and %d that are listed as untaken" %
              (name, taken, counted, 100 * taken / max(counted, 1), asserted))
        complete &= taken == counted or name == "all of src"
    for file, text in sorted(unused):
        print("coverage.untaken: %s has no such line: %s" % (file, text))
    return 0 if complete and not unused else 1


sys.exit(main())
