"""The Markdown page and its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.benchmark.results import Result, Row


def seconds(value: float) -> str:
    """Return a time with three digits and a unit."""
    value = float(f"{value:.3g}")  # so that 999.9 µs is 1.00 ms
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale or unit == "µs":
            number = value / scale
            return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f} {unit}"
    raise AssertionError


def size(value: int) -> str:
    """Return bytes as KiB or MiB."""
    return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 2**10:.1f} KiB"


def cell(row: Row | None, baseline: str) -> str:
    """Return a cell with time, ratio and the ratio's quartiles."""
    if row is None:
        return "—"
    s = row.summary
    if row.name == baseline or s.ratio is None:
        return seconds(s.median)
    spread = "" if s.ratio_q1 is None else f" ({s.ratio_q1:.2f}-{s.ratio_q3:.2f})"
    return f"{seconds(s.median)} · {s.ratio:.2f}{spread}"


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table. All columns except the first are right-aligned."""
    head = list(head)
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def geometric_mean(ratios: Iterable[float]) -> float:
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))


def tables(result: Result) -> str:
    """Return one table per mode, with a row per contender and a column per case."""
    parts = []
    cases = list(dict.fromkeys(row.case for row in result.rows))
    names = list(dict.fromkeys(row.name for row in result.rows))
    for mode in dict.fromkeys(row.mode for row in result.rows):
        found = {(row.name, row.case): row for row in result.rows if row.mode == mode}
        lines = []
        for name in names:
            here = [found.get((name, case)) for case in cases]
            line = [name, *(cell(row, result.baseline) for row in here)]
            if result.mean:
                ratios = [row.summary.ratio for row in here if row is not None]
                complete = len(ratios) == len(cases) and None not in ratios
                line.append(f"{geometric_mean(ratios):.2f}" if complete else "—")  # type: ignore[arg-type]
            lines.append(line)
        mean = ["geometric mean"] if result.mean else []
        parts.append(table([mode, *cases, *mean], lines))
        known = list(dict.fromkeys(row.name for row in found.values() if row.temporaries is not None))
        if known:
            lines = [[name, *(_size(found.get((name, case))) for case in cases)] for name in known]
            parts.append(table([f"{mode}: temporaries", *cases], lines))
    return "\n\n".join(parts)


def _size(row: Row | None) -> str:
    return "—" if row is None or row.temporaries is None else size(row.temporaries)


def page(results: Iterable[Result], about: Mapping[str, Any], title: str) -> str:
    """Return the whole page."""
    load = "" if about["load_average"] is None else f" Load average before: {about['load_average']}."
    parts = [f"Measured on {title}; medians of {about['rounds']} rounds.{load}", f"    {about['command']}"]
    notes = [*about["left_out"], *about["refused"]]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    for result in results:
        parts += [f"### {result.title}", result.about]
        parts += [tables(result)] if result.rows else []
        parts += ["\n".join(f"- {name}: {value}" for name, value in result.facts.items())] if result.facts else []
    return "\n\n".join(parts) + "\n"
