"""Gates, cell state and hidden state over time on one sequence, with its input above."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from experiments.pictures import style
from experiments.pictures.anatomy import Part, Rows
from experiments.tasks.findings import Example

LEGIBLE = 80  # symbols that can be read beside each other
LINES = 4  # rows of the input that are drawn as lines; more are a heat map
VISIBLE = {" ": "␣", "\n": "↵", "\t": "→", "": "∅"}
FEW_UNITS, FEW_STEPS = 128, 1000
FEW_NAMES = 16  # rows of an input whose names can be read
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def figure(part: Part, example: Example, *, title: str) -> Figure:
    """One heat map `[units, T]` a gate and a state; units are in the order of their mean cell state."""
    T = len(np.asarray(example.inputs))
    shown = [*part.gates, *part.states]
    above = _inputs(example)
    heights = [*[0.55] * (len(above) if len(above) <= LINES else 0), *([1.6] if len(above) > LINES else [])]
    heights += [1.0] * len(shown)
    width = 9.0 if T <= LEGIBLE else 12.0
    sheet = style.sheet(
        f"{title}\n{part.name}, on one sequence of {T} step{'s' * (T != 1)}", (width, 1.6 + 1.25 * sum(heights))
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
    """What is drawn above: the example's rows, or where it has none the input as the net takes it."""
    if example.rows:
        return {name: np.asarray(values, float) for name, values in example.rows.items()}
    inputs = np.asarray(example.inputs, float)
    if inputs.ndim == 1:  # ids; symbols say more, and stand on the axis below
        return {} if example.symbols and len(example.symbols) <= LEGIBLE else {"id": inputs}
    flat = inputs.reshape(len(inputs), -1).T
    return {f"input {number}": row for number, row in enumerate(flat)}


def _order(states: Sequence[Rows]) -> np.ndarray:
    """The units from the highest mean to the lowest, of the first state drawn: the cell state, where there is one."""
    return np.argsort(-states[0].values.mean(axis=0), kind="stable")


def _heat(axes: Axes, rows: Rows, order: np.ndarray) -> None:
    values = rows.values[:, order].T
    low, high = rows.low, rows.high
    if low is None or high is None:
        high = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
        low = -high
    # Few cells are drawn as they are; of many, what shares a pixel is averaged.
    crisp = "nearest" if len(order) <= FEW_UNITS and values.shape[1] <= FEW_STEPS else "auto"
    # Open and shut have no middle; what has a sign does.
    image = axes.imshow(
        values, aspect="auto", cmap="viridis" if low == 0 else "RdBu_r", vmin=low, vmax=high, interpolation=crisp,
        extent=(-0.5, values.shape[1] - 0.5, len(order) - 0.5, -0.5),
    )  # fmt: skip
    told = "0 shut, 1 open" if low == 0 and "gate" in rows.name else "dimensionless"
    axes.figure.colorbar(image, ax=axes, label=told, pad=0.01)  # pyright: ignore[reportAttributeAccessIssue]
    axes.set_ylabel(f"{rows.name}\n{len(order)} units", rotation=0, ha="right", va="center", fontsize=9)
    axes.set_yticks([])


def _ticks(panels: Sequence[Axes], symbols: Sequence[str], T: int, order: str) -> None:
    """Steps below; symbols, where they can be read, above as well, since they are the input."""
    axes = panels[-1]
    axes.set_xlim(-0.5, T - 0.5)
    if symbols and T <= LEGIBLE:
        font = get_font(findfont(FontProperties()))
        names = [_legible(symbol, font) for symbol in symbols]
        axes.set_xticks(range(T), names, parse_math=False)
        for edge in (panels[0], axes):
            edge.tick_params(axis="x", labelsize=9 if T <= 50 else 7, rotation=90 if max(map(len, names)) > 2 else 0)
        panels[0].tick_params(axis="x", top=True, labeltop=True)
        axes.set_xlabel(f"the symbol of each step\n({order})")
    else:
        axes.set_xlabel(f"step\n({order})")


def _legible(symbol: str, font: Any) -> str:
    """Blanks as signs, and one sign for all that the font has none for."""
    symbol = VISIBLE.get(symbol, symbol)
    return "".join(char if char.isprintable() and font.get_char_index(ord(char)) else UNKNOWN for char in symbol)
