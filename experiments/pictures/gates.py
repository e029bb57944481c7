"""Gates, cell state and hidden state over time on one sequence, with its input above."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from experiments.pictures import style
from experiments.pictures.anatomy import Part, Rows
from experiments.tasks.findings import Example

LEGIBLE = 80  # the most symbols that can be read side by side
LINES = 4  # up to this many input rows are drawn as lines, more as a heat map
VISIBLE = {" ": "␣", "\n": "↵", "\t": "→", "": "∅"}
FEW_UNITS, FEW_STEPS = 100, 700  # not more than the pixels of a panel
UNEVEN = 4.0  # the largest value over that of the last decile, from which on the scale is not linear
FEW_NAMES = 16  # the most input rows whose names can be read
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def figure(part: Part, example: Example, *, title: str) -> Figure:
    """Draw one heat map `[units, T]` per gate and state. Units are in the order of their mean cell state."""
    T = len(np.asarray(example.inputs))
    shown = [*part.gates, *part.states]
    above = _inputs(example)
    heights = [*[0.55] * (len(above) if len(above) <= LINES else 0), *([1.6] if len(above) > LINES else [])]
    heights += [1.0] * len(shown)
    sheet = style.sheet(
        f"{title}\n{part.name}, on one sequence of {T} step{'s' * (T != 1)}", (9, 1.6 + 1.25 * sum(heights))
    )
    panels = list(np.atleast_1d(sheet.subplots(len(heights), 1, sharex=True, height_ratios=heights)))
    edges = np.arange(T + 1) - 0.5
    if len(above) > LINES:
        image = panels[0].imshow(np.array(list(above.values())), aspect="auto", cmap="Greys")
        sheet.colorbar(image, ax=panels[0], label="input", pad=0.01)
        if len(above) <= FEW_NAMES:
            panels[0].set_yticks(range(len(above)), list(above), parse_math=False)
        else:
            panels[0].set_yticks([])
            panels[0].set_ylabel(f"input\n{len(above)} numbers", rotation=0, ha="right", va="center", fontsize=9)
    else:
        for axes, (name, values) in zip(panels, above.items(), strict=False):
            axes.stairs(values, edges, baseline=None, color="0.1", linewidth=1.2)
            axes.set_ylabel(textwrap.fill(name, 14), rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
            style.strip(axes)
    order = _order(part.states)
    for axes, rows in zip(panels[-len(shown) :], shown, strict=True):
        _heat(axes, rows, order if len(order) == rows.values.shape[1] else np.arange(rows.values.shape[1]))
    _ticks(panels, example.symbols, T, f"units from the highest mean {part.states[0].name}, on top, to the lowest")
    return sheet


def _inputs(example: Example) -> dict[str, np.ndarray]:
    """Return the rows to draw above: the example's rows, or the net's input if it has none.

    One-hot rows of symbols that can be read on the axis are left out, since they say the same.
    """
    legible = example.symbols and len(example.symbols) <= LEGIBLE
    if example.rows:
        symbols = np.array(example.symbols)
        if legible and all(np.array_equal(values, symbols == name) for name, values in example.rows.items()):
            return {}
        return {name: np.asarray(values, float) for name, values in example.rows.items()}
    inputs = np.asarray(example.inputs, float)
    if inputs.ndim == 1:  # ids; if there are symbols, they are on the axis below instead
        return {} if legible else {"id": inputs}
    flat = inputs.reshape(len(inputs), -1).T
    return {f"input {number}": row for number, row in enumerate(flat)}


def _order(states: Sequence[Rows]) -> np.ndarray:
    """Return the units from the highest to the lowest mean of the first state drawn: the cell state, if any."""
    return np.argsort(-states[0].values.mean(axis=0), kind="stable")


def _heat(axes: Axes, rows: Rows, order: np.ndarray) -> None:
    values = rows.values[:, order].T
    norm, ticks = _scale(rows)
    # Few cells are drawn exactly; with many, the values that share a pixel are averaged.
    crisp = "nearest" if len(order) <= FEW_UNITS and values.shape[1] <= FEW_STEPS else "auto"
    # A scale from shut to open has no middle; signed values have one.
    image = axes.imshow(
        values, aspect="auto", cmap="viridis" if norm.vmin == 0 else "RdBu_r", norm=norm, interpolation=crisp,
        extent=(-0.5, values.shape[1] - 0.5, len(order) - 0.5, -0.5),
    )  # fmt: skip
    told = "0 shut, 1 open" if norm.vmin == 0 and "gate" in rows.name else "dimensionless"
    told = f"{told},\nnot linear" if ticks else told
    bar = axes.figure.colorbar(image, ax=axes, label=told, pad=0.01)  # pyright: ignore[reportAttributeAccessIssue]
    if ticks:
        bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
        bar.minorticks_off()
    axes.set_ylabel(f"{rows.name}\n{len(order)} units", rotation=0, ha="right", va="center", fontsize=9)
    axes.set_yticks([])


def _scale(rows: Rows) -> tuple[Normalize, list[float]]:
    """Return the scale of the colours, and its ticks if it is not linear: a few large values would make others pale."""
    if rows.low is not None and rows.high is not None:
        return Normalize(rows.low, rows.high), []
    sizes = np.abs(rows.values[np.isfinite(rows.values)])
    high = float(sizes.max(initial=0.0)) or 1.0
    most = float(np.quantile(sizes, 0.9)) if sizes.size else high
    if not 0 < most * UNEVEN < high:
        return Normalize(-high, high), []
    width = most / 4
    halfway = width * np.sinh(np.arcsinh(high / width) / 2)
    first, last = (np.floor(x / 10 ** np.floor(np.log10(x))) * 10 ** np.floor(np.log10(x)) for x in (halfway, high))
    return AsinhNorm(width, -high, high), [-last, -first, 0.0, first, last]


def _ticks(panels: Sequence[Axes], symbols: Sequence[str], T: int, order: str) -> None:
    """Label the steps below. Legible symbols are above as well, since they are the input."""
    axes = panels[-1]
    axes.set_xlim(-0.5, T - 0.5)
    if symbols and T <= LEGIBLE:
        font = get_font(findfont(FontProperties()))
        names = [_legible(symbol, font) for symbol in symbols]
        axes.set_xticks(range(T), names, parse_math=False)
        longest = max(map(len, names))
        size = 9 if T * (longest + 1) <= 100 else 7
        for edge in (panels[0], axes):
            edge.tick_params(axis="x", labelsize=size, rotation=90 if longest > 2 else 0)
        panels[0].tick_params(axis="x", top=True, labeltop=True)
        axes.set_xlabel(f"the symbol of each step\n({order})")
    else:
        axes.set_xlabel(f"step\n({order})")


def _legible(symbol: str, font: Any) -> str:
    """Replace blanks by visible signs, and characters that the font lacks by one sign."""
    symbol = VISIBLE.get(symbol, symbol)
    return "".join(char if char.isprintable() and font.get_char_index(ord(char)) else UNKNOWN for char in symbol)
