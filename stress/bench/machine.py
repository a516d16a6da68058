# SPDX-License-Identifier: MIT
"""What a result was measured on: CPU and placement, system, compiler, sources."""
import os
import pathlib
import platform
import re
import subprocess

SYS_CPU = pathlib.Path("/sys/devices/system/cpu")
PACKAGES = ["gcc", "libabsl-dev", "libstdc++-12-dev", "libglib2.0-dev", "libck-dev",
            "liburcu-dev", "libc6"]


def read(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def output_of(*command, cwd=None):
    """The first line; empty if it cannot be had."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError:
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def found(pattern, text, otherwise=""):
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1).strip() if match else otherwise


def placement(cpu):
    base = SYS_CPU / f"cpu{cpu}"
    caches = {f"L{read(index / 'level')}": read(index / "shared_cpu_list")
              for index in sorted(base.glob("cache/index*")) if read(index / "level") != "1"}
    return {"cpu": int(cpu), "package": read(base / "topology/physical_package_id"),
            "core": read(base / "topology/core_id"),
            "threads_of_core": read(base / "topology/thread_siblings_list"),
            "caches_shared_by": caches}


def describe(root, binaries, cpus):
    cache = read(binaries.parent / "CMakeCache.txt")
    info = read("/proc/cpuinfo")
    compilers = [found(rf"^CMAKE_{language}_COMPILER:\w+=(.*)$", cache)
                 for language in ("C", "CXX")]
    return {
        "cpu": found(r"^model name\s*: (.*)$", info, platform.machine()),
        "cpu_family_model": "/".join(found(rf"^{key}\s*: (.*)$", info)
                                     for key in ("cpu family", "model", "stepping")),
        "hypervisor": "hypervisor" in found(r"^flags\s*: (.*)$", info).split(),
        "cpus": os.cpu_count(),
        "placement": [placement(cpu) for cpu in cpus.split(",")],
        "memory_gib": round(int(found(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), "0")) / 2**20),
        "huge_pages": found(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "kernel": platform.release(),
        "system": found(r'^PRETTY_NAME="?([^"]*)', read("/etc/os-release")),
        "compilers": [output_of(compiler, "--version") for compiler in compilers if compiler],
        "build": found(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", cache),
        "packages": {p: output_of("dpkg-query", "-W", "-f=${Version}", p) for p in PACKAGES},
        "revision": output_of("git", "describe", "--always", "--dirty", "--abbrev=12", cwd=root),
    }


def lines(it):
    """The same for people."""
    places = "; ".join(
        f"CPU {p['cpu']}: package {p['package']}, core {p['core']}, "
        + ", ".join(f"{name} of {shared}" for name, shared in p["caches_shared_by"].items())
        for p in it["placement"])
    return [
        f"{it['cpu']} (family/model/stepping {it['cpu_family_model']}), {it['cpus']} CPUs"
        f"{', a virtual machine' if it['hypervisor'] else ''}, {it['memory_gib']} GiB, "
        f"huge pages: {it['huge_pages']}",
        f"placement: {places}",
        f"{it['system']}, Linux {it['kernel']}",
        f"{', '.join(it['compilers'])}; {it['build']}; revision {it['revision']}",
    ]
