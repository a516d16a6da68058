# SPDX-License-Identifier: MIT
"""Results as SVG, by gnuplot: a plot for each figure of each workload."""
import subprocess

from tables import FIGURES


class Bad(Exception):
    """gnuplot is missing, or does not like what it gets."""


def data_block(name, results, workload, figure, column):
    yield f"${name} << EOD"
    for areas in sorted(results.distinct("areas", workload=workload, figure=figure,
                                         column=column)):
        spread = results.of(column, workload, areas, figure)
        yield f"{areas} {spread.median} {spread.least} {spread.greatest}"
    yield "EOD"


def script(results, workload, figure, path):
    columns = results.distinct("column", workload=workload, figure=figure)
    values = [results.of(column, workload, areas, figure) for column in columns
              for areas in results.distinct("areas", workload=workload, figure=figure,
                                            column=column)]
    unit = {"bytes": "bytes", "updates_per_s": "1/s"}.get(figure, "ns")
    yield "set terminal svg size 720,480 noenhanced background 'white'"
    yield f"set output '{path}'"
    yield f"set title '{workload}: {results.data['workloads'].get(workload, '')}'"
    yield "set xlabel 'areas'; set logscale x; set xrange [*:*]; set offsets 0, 0, 0, 0"
    yield f"set ylabel '{FIGURES.get(figure, figure)}, {unit}'"
    # A logarithm has no place for nothing.
    yield "set logscale y" if all(value.least > 0 for value in values) else "set yrange [0:*]"
    yield "set key outside right; set grid"
    for i, column in enumerate(columns):
        yield from data_block(f"d{i}", results, workload, figure, column)
    yield "plot " + ", ".join(
        f"$d{i} using 1:2:3:4 with yerrorlines title '{column}'"
        for i, column in enumerate(columns))


def make(results, directory):
    """Yields the path of each plot as it is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for workload in results.distinct("workload"):
        for figure in results.distinct("figure", workload=workload):
            name = workload if figure in ("ns", "bytes") else f"{workload}-{figure}"
            path = directory / f"{name}.svg"
            text = "\n".join(script(results, workload, figure, path)) + "\n"
            try:
                done = subprocess.run(["gnuplot"], input=text, capture_output=True, text=True,
                                      check=False)
            except OSError as error:
                raise Bad(f"gnuplot: {error.strerror}; it is in the package gnuplot-nox") from None
            if done.returncode:
                raise Bad(f"gnuplot, for {path}: {done.stderr}")
            yield path
