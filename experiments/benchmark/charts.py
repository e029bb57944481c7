"""Bar charts that compare contenders case by case."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.benchmark.results import Result, Row

COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#f0e442")
GREYS = {"again (A/A)": "0.75", "torch": "0.35"}  # the noise, and the contender that shares no round with the others


def bars(file: Path, result: Result, title: str) -> None:
    """Draw one panel per mode with one group of bars per case, and whiskers over the quartiles."""
    modes = list(dict.fromkeys(row.mode for row in result.rows))
    cases = list(dict.fromkeys(row.case for row in result.rows))
    names = list(dict.fromkeys(row.name for row in result.rows))
    if result.chart == "ratio":
        names.remove(result.baseline)  # 1 everywhere, drawn as a line
    width = max(8.0, 1.5 + 0.24 * len(names) * len(cases))
    figure = Figure(figsize=(width, 1.6 + 3.0 * len(modes)), layout="constrained", dpi=120)
    panels = figure.subplots(len(modes), 1, squeeze=False)[:, 0]
    for axes, mode in zip(panels, modes, strict=True):
        found = {(row.name, row.case): row for row in result.rows if row.mode == mode}
        step = min(0.84 / len(names), 0.2)
        colours = _colours(names)
        for number, name in enumerate(names):
            rows = [found.get((name, case)) for case in cases]
            places = np.arange(len(cases)) + (number - (len(names) - 1) / 2) * step
            values = [_values(row, result.chart) for row in rows]
            middle, low, high = (np.array(v) for v in zip(*values, strict=True))
            axes.bar(places, middle, step * 0.92, color=colours[number], label=name)
            axes.errorbar(places, middle, [middle - low, high - middle], fmt="none", ecolor="0.25", elinewidth=1)
            for place, value, top in zip(places, middle, high, strict=True):
                if np.isfinite(value):
                    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"
                    axes.annotate(
                        text, (place, top), (0, 2), textcoords="offset points", fontsize=7, rotation=90, ha="center",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                    )  # fmt: skip
        if result.chart == "ratio":
            axes.axhline(1, color="0.1", linewidth=1)
            axes.annotate(
                f"{result.baseline} = 1", (1, 1), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
            axes.set_ylabel(f"time / time of {result.baseline}\n(above 1: slower)")
        else:
            axes.set_ylabel("time, µs")
        axes.set_title(mode, loc="left", fontsize=10)
        axes.set_xticks(range(len(cases)), [_label(case) for case in cases])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(-0.5, len(cases) - 0.5)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.16)  # room for the numbers on the bars
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    figure.suptitle(f"jlstm benchmark: {result.title}\n" + _wrapped(title, int(width * 12)), fontsize=10)
    figure.savefig(file)


def _colours(names: list[str]) -> list[str]:
    """Return one colour per name. The order of contenders is the same in all charts, so they keep their colours."""
    colours = iter(COLOURS * len(names))
    return [next((grey for part, grey in GREYS.items() if part in name), "") or next(colours) for name in names]


def _values(row: Row | None, chart: str | None) -> tuple[float, float, float]:
    """Return (middle, low, high); NaN draws nothing."""
    if row is None:
        return np.nan, np.nan, np.nan
    s = row.summary
    if chart == "time":
        return s.median * 1e6, s.q1 * 1e6, s.q3 * 1e6
    middle = np.nan if s.ratio is None else s.ratio
    return middle, middle if s.ratio_q1 is None else s.ratio_q1, middle if s.ratio_q3 is None else s.ratio_q3


def _wrapped(text: str, width: int) -> str:
    """Wrap lines between items, not between a name and its version."""
    items = text.replace(" ", "\xa0").replace(",\xa0", ", ").replace(";\xa0", "; ")
    return "\n".join(textwrap.wrap(items, width))


def _label(case: str) -> str:
    """Return four sizes with their letters, in two lines."""
    sizes = case.split(",")
    if len(sizes) != 4:
        return case
    B, T, D, H = sizes
    return f"B {B}  T {T}\nD {D}  H {H}"
