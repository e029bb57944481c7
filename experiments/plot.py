"""The learning curve."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter


def learning_curve(
    file: Path,
    metrics: list[dict[str, float]],
    baselines: dict[str, float],
    *,
    title: str,
    measure: str,
    log_scale: bool,
) -> None:
    """Training loss, held-out measure and the baselines over optimiser steps, as a PNG."""
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=120)
    axes = figure.subplots()
    training = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    held_out = [(line["step"], line["held_out"]) for line in metrics if "held_out" in line]
    axes.plot(*zip(*training, strict=True), color="tab:blue", alpha=0.5, linewidth=1, label="training")
    axes.plot(*zip(*held_out, strict=True), color="tab:orange", marker="o", markersize=3, label="held-out")
    for number, (name, value) in enumerate(sorted(baselines.items(), key=lambda item: -item[1])):
        style = ("--", ":", "-.", (0, (1, 3)))[number % 4]
        axes.axhline(value, color="0.35", linewidth=1, linestyle=style, label=f"{name}: {value:.3g}")
    axes.set(title=title, xlabel="optimiser steps", ylabel=measure)
    if log_scale:
        axes.set_yscale("log")
        # Plain numbers, not powers: 0.01 is what a reader looks for.
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="best", frameon=False)
    figure.savefig(file)
