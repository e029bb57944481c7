"""Learning curves: the training loss and the measure on held-out data over optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.pictures import seeds, style

STEEP = 100.0  # a loss that falls by more than this factor has a logarithmic axis


def figure(
    metrics: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, float],
    *,
    title: str,
    loss_name: str,
    measure: str,
    unit: str,
    log_scale: bool,
    groups: Sequence[str] = (),
) -> Figure:
    """Draw one panel if loss and measure are the same quantity and there is one setting, else the loss above.

    metrics: the lines of metrics.jsonl, each with "step", with "loss" or "held_out", and in a sweep with "member".
    groups: one label per member, by its number; members with the same label are seeds of one setting.
    """
    count = max([len(groups), *(line.get("member", 0) + 1 for line in metrics)])
    losses, scores = (_settings(metrics, key, count, groups) for key in ("loss", "held_out"))
    label = f"{measure} [{unit}]"
    labels = list(dict.fromkeys([setting.label for setting in (*losses, *scores)]))
    together = loss_name == label and len(labels) < 2
    sheet = style.sheet(title, (8, 5.4) if together else (8, 8))
    panels = list(np.atleast_1d(sheet.subplots(1 if together else 2, 1, sharex=True)))
    colour = dict(zip(labels, style.colours(len(labels)), strict=True))
    for setting in losses:
        pale: dict[str, Any] = dict(alpha=0.6, linewidth=1) if together else dict(linewidth=1.2)
        seeds.draw(
            panels[0],
            setting,
            colour[setting.label],
            _named(setting.label, "training loss", labels),
            stops=True,
            **pale,
        )
    for setting in scores:
        shade = style.COLOURS[1] if len(labels) < 2 else colour[setting.label]
        dots: dict[str, Any] = dict(marker="o", markersize=3) if len(setting.x) <= 60 else {}
        seeds.draw(panels[-1], setting, shade, _named(setting.label, "held-out", labels), stops=True, **dots)
    style.baselines(panels[-1], baselines)
    style.score_axis(panels[-1], label if together else f"held-out\n{label}", unit, log_scale)
    if not together:
        style.score_axis(panels[0], f"training loss\n{loss_name}", "", _steep(panels[0]))
    panels[-1].set_xlabel("optimiser steps")
    for axes in panels:
        style.strip(axes)
    style.legend(sheet, panels, seeds.note(scores))
    return sheet


def _settings(metrics: Sequence[Mapping[str, Any]], key: str, count: int, groups: Sequence[str]) -> list[seeds.Setting]:
    found = seeds.as_points(metrics, key)
    return seeds.settings([found.get(member, {}) for member in range(count)], groups)


def _named(label: str, what: str, labels: Sequence[str]) -> str:
    """Return a label. With several settings the axis names the quantity, and both panels share a legend entry."""
    return label if len(labels) > 1 else f"{label}, {what}" if label else what


def _steep(axes: Axes) -> bool:
    heights = style.drawn(axes)
    return bool(heights.max(initial=0) > STEEP * heights.min(initial=np.inf) > 0)
