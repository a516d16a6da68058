# SPDX-License-Identifier: MIT
"""A file of results, and the figures in it: medians over the rounds, least and greatest."""
import json
import statistics


class Bad(Exception):
    """Not a file of results."""


def digits(value):
    """Three of them, more where they are whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Spread:
    """One figure over the rounds. A ratio of two is taken round by round."""

    def __init__(self, by_round):
        self.by_round = by_round

    def __bool__(self):
        return bool(self.by_round)

    @property
    def median(self):
        return statistics.median(self.by_round.values())

    @property
    def least(self):
        return min(self.by_round.values())

    @property
    def greatest(self):
        return max(self.by_round.values())

    def combine(self, other, function):
        return Spread({r: function(value, other.by_round[r])
                       for r, value in self.by_round.items() if r in other.by_round})

    def __truediv__(self, other):
        return self.combine(other, lambda a, b: a / b)

    def __sub__(self, other):
        return self.combine(other, lambda a, b: a - b)


def least_of(spreads):
    """Round by round; nothing where one of them is not there."""
    first, *others = spreads
    for other in others:
        first = first.combine(other, min)
    return first


class Results:
    def __init__(self, data):
        self.data = data
        self.machine = data["machine"]
        self.figures = {}
        for run in data["runs"]:
            for name, value in run["figures"].items():
                key = (run["workload"], name, run["column"], run["areas"])
                self.figures.setdefault(key, {})[run["round"]] = value
        self.operations = {}  # by trace
        self.replay_figures = {}
        for run in data["replays"]:
            self.operations[run["trace"]] = run["operations"]
            for name, value in run["figures"].items():
                key = (run["trace"], name)
                self.replay_figures.setdefault(key, {})[run["round"]] = value

    def of(self, column, workload, areas, figure="ns"):
        return Spread(self.figures.get((workload, figure, column, areas), {}))

    def of_replay(self, trace, figure):
        return Spread(self.replay_figures.get((trace, figure), {}))

    def distinct(self, place, **wanted):
        """The values at one place of the keys, in the order in which they were measured."""
        names = ("workload", "figure", "column", "areas")
        return list(dict.fromkeys(
            key[names.index(place)] for key in self.figures
            if all(key[names.index(name)] == value for name, value in wanted.items())))

    @property
    def areas(self):
        return sorted(self.distinct("areas"))


def load(path):
    try:
        with path.open(encoding="utf-8") as file:
            return Results(json.load(file))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise Bad(f"{path}: no results of stress/bench/run ({error!r})") from None
