"""Draw many members of a sweep as few lines. Members with the same label are seeds of one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

Points = Mapping[float, float]  # x -> y of one member


class Setting(NamedTuple):
    """The members of one label over x `[X]`: values `[members, X]`, NaN where a member has none."""

    label: str
    x: np.ndarray
    values: np.ndarray

    def middle(self) -> np.ndarray:
        """Return the median `[X]` over the members that have a value."""
        return np.array([np.median(column[np.isfinite(column)]) for column in self.values.T])

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest value, `[X]` each."""
        present = np.isfinite(self.values)
        low, high = np.where(present, self.values, np.inf), np.where(present, self.values, -np.inf)
        return low.min(axis=0), high.max(axis=0)

    def ends(self) -> list[tuple[float, float]]:
        """Return the last point of every member that stops before the others."""
        last = [np.flatnonzero(np.isfinite(row))[-1] for row in self.values if np.isfinite(row).any()]
        rows = [row for row in self.values if np.isfinite(row).any()]
        return [(float(self.x[n]), float(row[n])) for n, row in zip(last, rows, strict=True) if n < len(self.x) - 1]


def settings(members: Sequence[Points], labels: Sequence[str] = ()) -> list[Setting]:
    """Return one `Setting` per label, in the order of their first members. Values that are not finite are missing."""
    names = list(labels) or [""] * len(members)
    if len(names) != len(members):
        raise ValueError(f"groups: expected a label for each of {len(members)} members, got {len(names)}.")
    found = []
    for label in dict.fromkeys(names):
        chosen = [points for points, name in zip(members, names, strict=True) if name == label]
        x = sorted({x for points in chosen for x, y in points.items() if np.isfinite(y)})
        values = np.array([[points.get(place, np.nan) for place in x] for points in chosen], float)
        found.append(Setting(label, np.array(x, float), np.where(np.isfinite(values), values, np.nan)))
    return found


def note(settings: Sequence[Setting]) -> str | None:
    """Return the legend's note about lines and bands; None if every setting has one member."""
    several = any(len(setting.values) > 1 for setting in settings)
    return "lines: median of the seeds; bands: from the lowest to the highest" if several else None


def draw(axes: Axes, setting: Setting, colour: Any, label: str, *, stops: bool = False, **line: Any) -> None:
    """Draw the median over the band; with `stops`, also a cross where a member stops before the others."""
    count = len(setting.values)
    name = f"{label}, {count} seeds" if count > 1 else label
    name = name if len(setting.x) else f"{name}: no finite value"
    axes.plot(setting.x, setting.middle(), color=colour, label=name, **line)
    if count > 1:
        axes.fill_between(setting.x, *setting.edges(), color=colour, alpha=0.18, linewidth=0)
    if stops and (ends := setting.ends()):
        told = f"{label}: diverged, {len(ends)} of {count}"
        axes.plot(*zip(*ends, strict=True), "x", color=colour, markersize=7, markeredgewidth=1.6, label=told)


def as_points(lines: Sequence[Mapping[str, Any]], key: str) -> dict[int, dict[float, float]]:
    """Return metrics.jsonl's numbers `key` by member (0 without a sweep) and step; null becomes NaN."""
    found: dict[int, dict[float, float]] = {}
    for line in lines:
        if key in line:
            value = np.nan if line[key] is None else float(line[key])
            found.setdefault(line.get("member", 0), {})[line["step"]] = value
    return found
