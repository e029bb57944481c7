"""The common parts of all pictures: the sheet, its title, colours, baselines, axes with units."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image  # matplotlib requires it

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # for colour-blind eyes, too
LONGEST_LABEL = 38  # letters that fit along the vertical axis of a three-inch panel
DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (1, 3)), (0, (8, 3)))


def sheet(title: str, size: tuple[float, float]) -> Figure:
    """Return an empty figure. A $ in the title does not start a formula, since titles contain names of files."""
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, int(size[0] * 10)) or [""]]
    figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a PNG with a palette of 256 colours. It has about a third of the bytes; no difference can be seen."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    # This method keeps black, white and thin lines; the default one mixes rare colours.
    options = {"method": Image.Quantize.MAXCOVERAGE, "kmeans": 1, "dither": Image.Dither.NONE}
    image = Image.open(drawn).convert("RGB").quantize(**options)
    image.save(file, optimize=True, dpi=(figure.dpi, figure.dpi))


def colours(count: int) -> list[Any]:
    """Return `count` colours from the palette, or from a continuous scale if the palette is too small."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count)))


def baselines(axes: Axes, values: Mapping[str, float]) -> None:
    """Draw one grey line per baseline, the highest first in the legend, as on the sheet."""
    for number, (name, value) in enumerate(sorted(values.items(), key=lambda item: -item[1])):
        style = DASHES[number % len(DASHES)]
        axes.axhline(value, color="0.35", linewidth=1, linestyle=style, label=f"{name}: {value:.3g}")


def score_axis(axes: Axes, label: str, unit: str, log_scale: bool = False) -> None:
    """Set the vertical axis of a measure: 0 to 100 for a percentage, logarithmic with `log_scale`."""
    # A line that is too long is broken before its unit first.
    parts = [part.replace(" [", "\n[") if len(part) > LONGEST_LABEL else part for part in label.splitlines()]
    lines = [line for part in parts for piece in part.splitlines() for line in textwrap.wrap(piece, LONGEST_LABEL)]
    axes.set_ylabel("\n".join(lines), parse_math=False)
    heights = drawn(axes)
    if log_scale and heights.min(initial=np.inf) > 0:
        axes.set_yscale("log")
        # Plain numbers such as 0.01, not powers of ten.
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e4 * low else (1.0,), numticks=30))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif unit == "%" and ((heights >= 0) & (heights <= 100)).all():
        axes.set_ylim(0, 100)
        for line in axes.lines:  # so that a line at 100 is not cut in half
            line.set_clip_on(False)


def drawn(axes: Axes) -> np.ndarray:
    """Return the heights of all points of all lines."""
    return np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines] or [np.empty(0)])


def legend(figure: Figure, panels: Sequence[Axes], note: str | None = None) -> None:
    """Draw one legend below the panels, where it covers nothing. The sheet grows with it."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    widest = max(len(label) for label in found)
    columns = max(1, min(4, int(figure.get_figwidth() * 12 / (widest + 8))))
    rows = math.ceil(len(found) / columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 3))
    box = figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=columns,
        frameon=False, fontsize=9, title=note, title_fontsize=9,
    )  # fmt: skip
    for text in box.get_texts():
        text.set_parse_math(False)


def strip(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
