"""The measure against the length of the sequence, for the lengths of training and beyond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.pictures import seeds, style
from experiments.tasks.findings import ByLength


def figure(
    found: Sequence[ByLength],
    baselines: Mapping[str, float],
    *,
    title: str,
    measure: str,
    unit: str,
    log_scale: bool,
    groups: Sequence[str] = (),
) -> Figure:
    """Draw one line per setting over the members `found`. groups: one label per member; () is seeds of one setting."""
    sheet = style.sheet(title, (8, 5.2))
    axes = sheet.subplots()
    trained = max(member.trained_to for member in found)
    first = min(float(member.lengths.min()) for member in found)
    last = max(float(member.lengths.max()) for member in found)
    axes.axvspan(min(first, 0), trained, color="0.92", label=f"trained on lengths up to {trained}")
    members = [dict(zip(map(float, m.lengths), map(float, m.values), strict=True)) for m in found]
    settings = seeds.settings(members, groups)
    for setting, colour in zip(settings, style.colours(len(settings)), strict=True):
        dots: dict[str, Any] = dict(marker="o", markersize=3) if len(setting.x) <= 60 else {}
        seeds.draw(axes, setting, colour, setting.label or measure, **dots)
    style.baselines(axes, baselines)
    axes.set_xlim(min(first, 0), max(last, trained))
    axes.set_xlabel("length of the sequence [steps]")
    style.score_axis(axes, f"{measure} [{unit}]", unit, log_scale)
    style.strip(axes)
    style.legend(sheet, [axes], seeds.note(settings))
    return sheet
