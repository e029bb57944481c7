"""The results of a section."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from experiments.benchmark.timing import Summary


class Row(NamedTuple):
    """One contender in one case. case: the sizes.   mode: what was run, one table each.   temporaries: bytes."""

    case: str
    mode: str
    name: str
    summary: Summary
    temporaries: int | None = None


class Result(NamedTuple):
    """A section's result. about: a description in sentences.   baseline: the name that ratios are to.

    facts: numbers outside the tables.   chart: the quantity of the bars, the ratio to the baseline or the time; None
    for no chart.   mean: True if the cases are many of one kind, so that their geometric mean is meaningful.
    """

    title: str
    about: str
    baseline: str = ""
    rows: list[Row] = []  # noqa: RUF012
    facts: dict[str, Any] = {}  # noqa: RUF012
    chart: Literal["ratio", "time"] | None = None
    mean: bool = False
