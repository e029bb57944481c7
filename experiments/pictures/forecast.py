"""A series, its forecast, and the residuals."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.pictures import style
from experiments.tasks.findings import Forecast

LEGIBLE = 400  # points; with more, another panel enlarges the last ones
SHADES = ("#e8eef7", "#fdeedd", "#e6f4ea", "#f6e6f0", "#f0f0f0")


def figure(found: Forecast, *, title: str) -> Figure:
    """Draw truth and forecast over the named spans, with each one's root mean square error, and residuals below."""
    times, truth, predicted = (np.asarray(a, float) for a in (found.times, found.truth, found.predicted))
    ahead = "one step" if found.ahead == 1 else f"{found.ahead} steps"
    long = len(times) > LEGIBLE
    sheet = style.sheet(title, (9, 8.4 if long else 6.4))
    panels = list(sheet.subplots(3 if long else 2, 1, height_ratios=[2, 2, 1] if long else [2, 1]))
    series, residual = panels[:-1], panels[-1]
    for axes in series:
        axes.plot(times, truth, color="0.1", linewidth=1.2, label="truth")
        axes.plot(times, predicted, color=style.COLOURS[1], linewidth=1.2, alpha=0.85, label=f"forecast, {ahead} ahead")
        axes.set_ylabel(found.quantity, parse_math=False)
    left = truth - predicted
    residual.plot(times, left, color=style.COLOURS[0], linewidth=1)
    residual.axhline(0, color="0.35", linewidth=1)
    residual.set_ylabel(f"truth - forecast\n{found.quantity}", parse_math=False)
    half = float(np.median(np.diff(times))) / 2 if len(times) > 1 else 0.5
    for (name, (first, last)), shade in zip(found.spans.items(), _cycle(len(found.spans)), strict=True):
        inside = (times >= first) & (times <= last) & np.isfinite(left)
        error = f", root mean square error {np.sqrt(np.mean(left[inside] ** 2)):.3g}" if inside.any() else ""
        reach = f", {first:g} to {last:g}" if first < last else f", {first:g}"
        reach = "" if f"{first:g}-{last:g}" in name else reach  # the name says it
        for axes in panels:
            axes.axvspan(first - half, last + half, color=shade, zorder=0, label=f"{name}{reach}{error}")
    for axes in panels:
        axes.set_xlim(times[0] - half, times[-1] + half)
        style.strip(axes)
    if long:
        few = slice(-LEGIBLE // 2, None)
        both = np.concatenate([truth[few], predicted[few]])
        margin = 0.05 * float(np.nanmax(both) - np.nanmin(both)) or 1.0
        panels[1].set_xlim(times[few][0] - half, times[-1] + half)
        panels[1].set_ylim(np.nanmin(both) - margin, np.nanmax(both) + margin)
        panels[1].set_ylabel(f"{found.quantity}\nthe last {LEGIBLE // 2} points", parse_math=False)
    residual.set_xlabel(found.time, parse_math=False)
    style.legend(sheet, panels)
    return sheet


def _cycle(count: int) -> list[str]:
    return [SHADES[number % len(SHADES)] for number in range(count)]
