"""What a section finds."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from experiments.benchmark.timing import Summary


class Row(NamedTuple):
    """One contender in one case. case: the sizes.   mode: what was run, a table of its own.   temporaries: bytes."""

    case: str
    mode: str
    name: str
    summary: Summary
    temporaries: int | None = None


class Result(NamedTuple):
    """about: what was done, in sentences.   baseline: the name that ratios are to.   facts: what no table shows.

    chart: what its bars show: the ratio to the baseline, or the time; None for no chart.   mean: whether the cases are
    many of one kind, so that the geometric mean over them says something.
    """

    title: str
    about: str
    baseline: str = ""
    rows: list[Row] = []  # noqa: RUF012
    facts: dict[str, Any] = {}  # noqa: RUF012
    chart: Literal["ratio", "time"] | None = None
    mean: bool = False
