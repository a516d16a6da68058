# SPDX-License-Identifier: MIT
"""What is to be reached: each target a figure made of others, and its bound by the number
of areas. Ratios are those of one round; their median is what counts."""
from results import Spread, digits, least_of

DYNAMIC_PEERS = ["absl", "stdmap", "gtree", "gtree-ck"]
EVERY = (100, 1000, 10000, 100000, 1000000)
MIDDLE = (100, 1000, 10000)
BELOW_MILLION = (100, 1000, 10000, 100000)


class Target:
    def __init__(self, what, sign, value, bounds, unit=""):
        """`sign`: ">=" or "<="; `bounds`: {areas: bound}."""
        self.what, self.sign, self.value, self.unit = what, sign, value, unit
        self.by_areas = bounds

    def bounds(self, results):
        """Those numbers of areas that were measured; all of a target, if none of them was."""
        measured = [(n, bound) for n, bound in self.by_areas.items() if n in results.areas]
        return measured or list(self.by_areas.items())[:1]

    def text(self, bound):
        return f"{'at least' if self.sign == '>=' else 'at most'} {digits(bound)}{self.unit}"

    def verdict(self, bound, reached):
        if not reached:
            return ""
        if self.sign == ">=":
            return "yes" if reached.median >= bound else "**no**"
        return "yes" if reached.median <= bound else "**no**"


def steps(*pairs):
    """((areas...), bound)...: one dictionary."""
    return {n: bound for areas, bound in pairs for n in areas}


def times(slower, faster):
    """How many times as long the first takes as the second, each (column, workload)."""
    return lambda results, n: results.of(*slower, n) / results.of(*faster, n)


def beyond(more, less):
    """How much longer."""
    return lambda results, n: results.of(*more, n) - results.of(*less, n)


def figure(column, workload, name="ns"):
    return lambda results, n: results.of(column, workload, n, name)


def fastest_dynamic(results, n):
    here = [results.of(peer, "dependent", n) for peer in DYNAMIC_PEERS]
    if not all(here):
        return Spread({})
    return least_of(here) / results.of("aspace", "dependent", n)


def of_avx512(variant):
    def value(results, n):
        if results.data.get("search") != "avx512":
            return Spread({})
        return results.of(variant, "random", n) / results.of("aspace", "random", n)
    return value


MINE = "aspace"

TARGETS = [
    Target("random lookup: absl's time / ours", ">=",
           times(("absl", "random"), (MINE, "random")),
           steps((MIDDLE, 5), ((100000,), 4), ((1000000,), 3))),
    Target("random lookup: ours / static vectorised tree", "<=",
           times((MINE, "random"), ("stree", "random")), steps((EVERY, 1.5))),
    Target("2 threads: throughput / that of 1", ">=",
           times((MINE, "random"), (MINE, "random2")), steps((EVERY, 1.8))),
    Target("64 lookups in one area: beyond an empty read section", "<=",
           beyond((MINE, "local"), (MINE, "section")), steps((MIDDLE, 2)), " ns"),
    Target("dependent lookup: the fastest dynamic peer's time / ours", ">=", fastest_dynamic,
           steps((MIDDLE, 1.7), ((100000,), 1.3), ((1000000,), 1))),
    Target("unmap and map: ours / absl's", "<=",
           times((MINE, "update"), ("absl", "update")),
           steps(((100, 1000), 2), ((100000,), 3.2), ((1000000,), 2.4))),
    Target("update in a transaction of 64 neighbours / single", "<=",
           times((MINE, "transaction64"), (MINE, "update")), steps((EVERY, 0.5))),
    Target("lookup beside a writer: mean / quiet mean", "<=",
           times((MINE, "beside"), (MINE, "random")), steps(((1000,), 3))),
    Target("beside a writer: updates a second", ">=",
           figure(MINE, "beside", "updates_per_s"), steps(((1000,), 3e6))),
    Target("beside a writer: p99.9", "<=",
           figure(MINE, "beside", "p99.9"), steps(((1000,), 1000)), " ns"),
    Target("lowest gap", "<=", figure(MINE, "lowest-gap"), steps((EVERY, 50)), " ns"),
    Target("gap from a random hint / random lookup", "<=",
           times((MINE, "hinted-gap"), (MINE, "random")), steps((EVERY, 1.5))),
    Target("bytes an area after random insertion", "<=",
           figure(MINE, "bytes-random", "bytes"), steps((EVERY, 68))),
    Target("bytes an area after ascending insertion", "<=",
           figure(MINE, "bytes-ascending", "bytes"), steps((EVERY, 46))),
    Target("64 lookups in one call: single lookup's time / each of theirs", ">=",
           times((MINE, "random"), (MINE, "many")), steps(((1000000,), 2))),
    Target("search by AVX2: time / AVX-512's", "<=", of_avx512("aspace-avx2"),
           steps((BELOW_MILLION, 1.4), ((1000000,), 1.6))),
    Target("portable search: time / AVX-512's", "<=", of_avx512("aspace-portable"),
           steps((BELOW_MILLION, 2.2), ((1000000,), 2.3))),
]

# Of every trace, in per cent of the time of the same system calls.
REPLAY = Target("the library's share in a replayed trace", "<=",
                lambda results, trace: results.of_replay(trace, "share"), {}, " %")
REPLAY_BOUND = 5
