#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""commands.py SOURCE_ROOT [FILE...]

Every command that a script, a CMake file, a C or a Python file of the tree calls comes from a
package that ci/packages names, or that every Debian has: a test that needs what no list names
passes on its author's machine, and nowhere else. Which package a command is from is asked of dpkg.

Scripts are read by shfmt, as syntax trees. A command is the first word of a simple command, and
what follows in the arguments of those that run another (timeout, env, xargs, find -exec, ...) and of
the scripts' own functions that run "$@". One that may be missing is in a comment of the file,
"optional: NAME, why". What this cannot see: commands whose names are put together at run time, and
scripts inside of strings.
"""
import json
import os
import re
import shutil
import subprocess
import sys

# Those that run another command: how many arguments of their own, options not counted, come first.
RUNNERS = {"timeout": 1, "env": 0, "nice": 0, "xargs": 0, "exec": 0, "command": 0, "sudo": 0,
           "setsid": 0, "setpriv": 0, "unshare": 0, "setarch": 1, "taskset": 1, "chroot": 1,
           "strace": 0, "valgrind": 0, "eval": 0, "nohup": 0, "stdbuf": 0, "time": 0}
# Their options that take an argument, as words of their own.
TAKES = {"-n", "-P", "-I", "-k", "-s", "-u", "-o", "-e", "-d", "-L", "-E", "--propagation",
         "--pdeathsig"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*$")


def literal(word):
    """The text of a word without expansions, or None."""
    text = ""
    for part in word.get("Parts", []):
        kind = part.get("Type")
        if kind == "Lit":
            text += part["Value"]
        elif kind == "SglQuoted":
            text += part["Value"]
        elif kind == "DblQuoted" and all(p.get("Type") == "Lit" for p in part.get("Parts", [])):
            text += "".join(p["Value"] for p in part.get("Parts", []))
        else:
            return None
    return text


def is_all_arguments(word):
    """Is it "$@", or "${@:N}"?"""
    parts = word.get("Parts", [])
    if len(parts) == 1 and parts[0].get("Type") == "DblQuoted":
        parts = parts[0].get("Parts", [])
    return len(parts) == 1 and parts[0].get("Type") == "ParamExp" and \
        parts[0].get("Param", {}).get("Value") == "@"


def is_array(word):
    """Is it "${name[@]}"?"""
    return any(n.get("Index", {}).get("Parts", [{}])[0].get("Value") == "@"
               for n in nodes(word) if isinstance(n.get("Index"), dict))


def nodes(tree):
    """All nodes, as they stand in the source."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


class Script:
    def __init__(self, text, extra_functions=()):
        done = subprocess.run(["shfmt", "-tojson"], input=text, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"FAIL: shfmt: {done.stderr}")
        self.tree = json.loads(done.stdout)
        self.functions = {}  # name: how many arguments come before the command it runs, or None
        self.called = []     # (name, line)
        for node in nodes(self.tree):
            if node.get("Type") == "FuncDecl":
                self.functions[node["Name"]["Value"]] = self.runs(node["Body"])
        for name in extra_functions:
            self.functions.setdefault(name, extra_functions[name])
        for node in nodes(self.tree):
            if node.get("Type") == "CallExpr" and node.get("Args"):
                self.call(node["Args"])

    @staticmethod
    def runs(body):
        shifts = 0
        for node in nodes(body):
            if node.get("Type") != "CallExpr" or not node.get("Args"):
                continue
            words = node["Args"]
            if literal(words[0]) == "shift":
                shifts += int(literal(words[1]) or 1) if len(words) > 1 else 1
            for at, word in enumerate(words):
                first = at == 0 or literal(words[0]) in RUNNERS
                if is_all_arguments(word) and first:
                    slice_ = next((n["Slice"] for n in nodes(word) if n.get("Slice")), None)
                    if slice_:
                        return int(slice_["Offset"]["Parts"][0]["Value"]) - 1
                    return shifts
        return None

    def call(self, words):
        name = literal(words[0])
        if name is None:
            return
        if name == "command" and len(words) > 2 and literal(words[1]) == "-v":
            words = words[2:]
            name = literal(words[0])
            if name is None:
                return
        if NAME.match(name):
            self.called.append((name, words[0]["Pos"]["Line"]))
        rest = words[1:]
        if self.functions.get(name) is not None:
            if len(rest) > self.functions[name]:
                self.call(rest[self.functions[name]:])
        elif name in self.functions:
            return
        elif name in RUNNERS:
            own = RUNNERS[name]
            while rest:
                word = literal(rest[0])
                if word is None:
                    if not is_array(rest[0]):
                        return
                    rest = rest[1:] # options, or variables
                    continue
                if word in TAKES:
                    rest = rest[2:]
                elif word.startswith("-") or "=" in word:
                    rest = rest[1:]
                elif own:
                    own, rest = own - 1, rest[1:]
                else:
                    self.call(rest)
                    return
        elif name == "find":
            for at, word in enumerate(rest):
                if literal(word) in ("-exec", "-execdir", "-ok"):
                    self.call(rest[at + 1:])
        elif name == "cmake":
            # Without a word about the generator, cmake asks for make.
            options = [literal(word) or "" for word in rest]
            if any(o in ("-S", "-B") or o.startswith("-B") for o in options) and \
                    not any(o.startswith(("-G", "--preset")) for o in options):
                self.called.append(("make", words[0]["Pos"]["Line"]))


def called_elsewhere(path, text):
    """(name, line) of the commands that CMake, C and Python files run."""
    if path.endswith((".cmake", "CMakeLists.txt")):
        text = re.sub(r"#.*|\"[^\"]*\"", "", text)
        patterns = [r"find_program\(\s*\S+\s+(?:NAMES\s+)?([\w.+-]+)",
                    r"(?<!if\()(?<!AND )\bCOMMAND\s+([a-z][\w.+-]*)"]
        flags = re.S
    elif path.endswith((".c", ".h")):
        patterns = [r"\b(?:execl[pe]?|execvp?|posix_spawnp?)\(\s*\"([^\"/]+)\"",
                    r"\b(?:system|popen)\(\s*\"(?:command -v )?([\w.+-]+)",
                    # The words of a command line, in an array.
                    r"\[\]\s*(?:\[\d+\]\s*)?=\s*\{\s*\"([a-z][\w.+-]*)\", \"-"]
        flags = 0
    else:
        patterns = [r"subprocess\.\w+\(\s*\[\s*\"([\w.+-]+)\"", r"os\.system\(\s*f?\"([\w.+-]+)"]
        flags = re.S
    for pattern in patterns:
        for match in re.finditer(pattern, text, flags):
            yield match.group(1), text.count("\n", 0, match.start(1)) + 1


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def packages_there(named):
    """What a minimal Debian has, what ci/packages names, and what those bring along."""
    there, needs, providers = set(named), {}, {}
    fields = "${Package}\t${Essential}\t${Priority}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    for line in ask("dpkg-query", "-W", "-f", fields).splitlines():
        name, essential, priority, depends, provides = line.split("\t")
        # Of alternatives, the first is what apt takes.
        needs[name] = re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", depends)
        for other in re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", provides):
            providers.setdefault(other, set()).add(name)
        if essential == "yes" or priority == "required":
            there.add(name)
    todo = list(there)
    while todo:
        for need in needs.get(todo.pop(), []):
            for name in {need} if need in needs else providers.get(need, set()):
                if name not in there:
                    there.add(name)
                    todo.append(name)
    return there


def owners(paths):
    """The packages that each of the files is from; through the links of update-alternatives."""
    forms = {path: {path, re.sub(r"^/usr", "", path), os.path.realpath(path)} for path in paths}
    from_ = {}
    for line in ask("dpkg", "-S", *set().union(*forms.values())).splitlines():
        packages, _, path = line.rpartition(": ")
        if not line.startswith("diversion"):
            from_.setdefault(path, set()).update(p.split(":")[0] for p in packages.split(", "))
    return {path: set().union(*(from_.get(form, set()) for form in forms[path])) for path in paths}


# What the reading of scripts must find, one way to call a command in each line.
SAMPLE = """
direct; a=1 assigned | piped && $(substituted) || ! negated
if tested; then guarded; fi
timeout -k 5 10 timed; env -i A=b envied; nice -n 5 niced; find . -exec executed {} +
step() { shift; "$@"; }
step "quoted text" stepped --option
unless() { if [[ $1 ]]; then nice "${@:2}"; fi; }
unless x skipped_one
cmake -S a -B b
cmake --preset a -B b
echo no; # commented
command -v asked; nice "${options[@]}" -n 5 optioned
"$variable" argument
"""
FOUND = ("direct assigned piped substituted negated tested guarded timed envied niced executed stepped "
         "skipped_one make asked optioned").split()


def read_sample():
    script = Script(SAMPLE)
    known = RUNNERS.keys() | script.functions.keys() | {"echo", "find", "cmake", "shift"}
    found = [name for name, _ in script.called if name not in known]
    if found != FOUND:
        raise SystemExit(f"FAIL: in the sample, found {found}, not {FOUND}")


def main():
    root, only = sys.argv[1], sys.argv[2:]
    for tool in ("shfmt", "dpkg-query"):
        if not shutil.which(tool):
            print(f"skipped: there is no {tool}")
            return 77
    os.chdir(root)
    read_sample()
    builtins = set(ask("bash", "-c", "compgen -bk").split())
    with open("ci/packages", encoding="utf-8") as file:
        named = {line.split()[1].split(":")[0] for line in file if line.strip() and line[0] != "#"}
    there = packages_there(named)

    files = only or [f for f in subprocess.run(
        ["bash", "-c", ". ci/lib.sh && tree_files"], capture_output=True, text=True,
        check=True).stdout.split("\0") if f]
    texts = {}
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                texts[path] = file.read()
        except (UnicodeDecodeError, OSError):
            pass
    scripts = {p: t for p, t in texts.items() if re.match(r"#!/bin/(ba)?sh", t) or
               (p.endswith(".sh") and "/" in p)}
    shared = {}  # functions of what is sourced are everybody's
    for path, text in scripts.items():
        if not text.startswith("#!"):
            shared.update(Script(text).functions)

    called, optional = {}, {}
    # In CMake's COMMAND, the programs that are built here go by their targets' names.
    built = {os.path.basename(p)[:-2] for p in texts if p.endswith(".c")}
    for path, text in texts.items():
        found = []
        if path in scripts:
            script = Script(text, shared)
            found = script.called
            optional[path] = set(script.functions)
        elif path.endswith((".cmake", "CMakeLists.txt", ".c", ".h", ".py")):
            found = called_elsewhere(path, text)
            optional[path] = set(built)
        optional.setdefault(path, set()).update(re.findall(r"optional: ([\w.+-]+),", text))
        for name, line in found:
            if name not in builtins and name not in shared and name not in optional[path]:
                called.setdefault(name, []).append(f"{path}:{line}")

    failures = 0
    paths = {name: shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
             for name in called}
    packages = owners(set(filter(None, paths.values())))
    for name, places in sorted(called.items()):
        path = paths[name]
        if path and packages[path] & there:
            continue
        if not path and name in named:  # of ci/fresh, say: not installed for the tests
            continue
        places = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
        if path:
            print(f"FAIL: {name} is from {' or '.join(sorted(packages[path])) or path}, which "
                  f"ci/packages does not name ({places})")
        else:
            print(f"FAIL: no package here has a command {name} ({places})")
        failures += 1
    if failures:
        return 1
    if not only and (len(called) < 60 or not {"make", "patch", "gcc", "awk"} & set(called)):
        print(f"FAIL: only {len(called)} commands found: {' '.join(sorted(called))}")
        return 1
    print(f"ok: {len(called)} commands, called by {len(texts)} files: {' '.join(sorted(called))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
