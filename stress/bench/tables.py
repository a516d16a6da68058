# SPDX-License-Identifier: MIT
"""Results as Markdown: what was to be reached, and a table for each workload."""
import machine
from results import digits
from targets import REPLAY, REPLAY_BOUND, TARGETS

FIGURES = {
    "ns": "time of each",
    "updates_per_s": "updates a second beside it",
    "p50": "half of them within",
    "p99": "99 % within",
    "p99.9": "99.9 % within",
    "max": "the longest",
    "bytes": "bytes an area",
}


def unit_of(figure, value):
    """In what a figure of this size is best read, and how much of it that is."""
    if figure == "updates_per_s":
        return "million", 1e6
    if figure == "bytes":
        return "", 1
    if value < 1e3:
        return "ns", 1
    return ("µs", 1e3) if value < 1e6 else ("ms", 1e6)


def cell(figure, spread):
    if not spread:
        return "–"
    unit, size = unit_of(figure, spread.median)
    median, least, greatest = (
        digits(value / size) for value in (spread.median, spread.least, spread.greatest))
    return f"{median} {unit} ({least} .. {greatest})".replace("  ", " ")


def row(cells):
    return "| " + " | ".join(cells) + " |"


def workload_table(results, workload, figure):
    columns = results.distinct("column", workload=workload, figure=figure)
    yield row(["areas", *columns])
    yield "|--:|" + "--:|" * len(columns)
    for areas in sorted(results.distinct("areas", workload=workload, figure=figure)):
        yield row([f"{areas:,}", *(cell(figure, results.of(column, workload, areas, figure))
                                   for column in columns)])


def heading(results):
    data = results.data
    yield (f"Measured on {data['date']} by `{data['command']}`: {data['rounds']} rounds"
           f"{', interrupted' if data['interrupted'] else ''}. Medians, least .. greatest in "
           "parentheses.")
    yield ""
    for line in machine.lines(results.machine):
        yield f"- {line}"
    if "search" in data:
        yield f"- the library searches by {data['search']}"


def target_row(target, where, bound, reached):
    numbers = "not measured"
    if reached:
        numbers = (f"{digits(reached.median)} "
                   f"({digits(reached.least)} .. {digits(reached.greatest)})")
    return row([target.what, where, target.text(bound), numbers, target.verdict(bound, reached)])


def targets(results):
    yield row(["what", "areas", "target", "reached", ""])
    yield "|---|--:|--:|--:|---|"
    for target in TARGETS:
        for areas, bound in target.bounds(results):
            yield target_row(target, f"{areas:,}", bound, target.value(results, areas))
    for trace in results.operations or ["any"]:
        yield target_row(REPLAY, trace, REPLAY_BOUND, REPLAY.value(results, trace))


def replay_table(results):
    yield row(["trace", "operations", "the program's own calls", "the host backend's",
               "with the library", "the library's share"])
    yield "|---|--:|--:|--:|--:|--:|"
    for trace, operations in results.operations.items():
        share = results.of_replay(trace, "share")
        yield row([trace, f"{operations:,}",
                   *(cell("ns", results.of_replay(trace, way))
                     for way in ("kernel", "backend", "library")),
                   f"{digits(share.median)} % ({digits(share.least)} .. {digits(share.greatest)})"])


def everything(results):
    yield from heading(results)
    yield ""
    yield from targets(results)
    for workload in results.distinct("workload"):
        yield ""
        yield f"### {workload}: {results.data['workloads'].get(workload, '')}"
        for figure in results.distinct("figure", workload=workload):
            yield ""
            yield f"{FIGURES.get(figure, figure)}:"
            yield ""
            yield from workload_table(results, workload, figure)
    if results.operations:
        yield ""
        yield "### replay: traces of real programs on the host backend (`replay --time`)"
        yield ""
        yield "Time of each operation:"
        yield ""
        yield from replay_table(results)
