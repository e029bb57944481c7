"""Pictures of a run, as PNGs in its directory. `draw` makes those that apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.pictures import anatomy, curves, forecast, gates, lengths, style
from experiments.tasks import Task
from experiments.tasks.findings import Findings


class Drawn(NamedTuple):
    """The files written, and one line with the reason for each picture left out."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def draw(
    path: Path,
    task: Task,
    net: Any,
    params: Any,
    findings: Findings | Sequence[Findings],
    metrics: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, float],
    title: str,
    *,
    groups: Sequence[str] = (),
    shown: int = 0,
    shown_title: str = "",
) -> Drawn:
    """Write into the directory `path` the pictures of one run, or of a sweep over its members:

    learning_curve.png   always
    length.png           if the task has findings.by_length
    forecast.png         if it has findings.forecast; of the member `shown`
    gates.png            of the member `shown` on task.example(); also gates_backward.png if the layer has two
                         directions

    params: of the member `shown` alone.   findings: one per member, or those of the single run.
    metrics: the lines of metrics.jsonl.   groups: one label per member; equal labels are seeds of one setting.
    title, shown_title: name the training and the member `shown`, as "parity, LSTM 64, 16 seeds" and "seed 3".
    """
    every = [findings] if isinstance(findings, Findings) else list(findings)
    of_shown = f"{title}, {shown_title}" if shown_title else title
    axis: dict[str, Any] = dict(measure=task.measure, unit=task.unit, log_scale=task.log_scale)
    pictures: dict[str, Figure] = {
        "learning_curve.png": curves.figure(
            metrics,
            # The curve is on held-out data, so a baseline on test data is labelled.
            baselines if task.test is None else {f"{name} (test data)": value for name, value in baselines.items()},
            title=f"Learning curves: {title}",
            loss_name=task.loss_name,
            groups=groups,
            **axis,
        )
    }
    left_out = []
    by_length = [(n, member.by_length) for n, member in enumerate(every) if member.by_length is not None]
    if by_length:
        pictures["length.png"] = lengths.figure(
            [found for _, found in by_length],
            baselines,
            title=f"{task.measure[:1].upper()}{task.measure[1:]} by length: {title}",
            groups=[groups[n] for n, _ in by_length] if groups else (),
            **axis,
        )
    if (found := every[shown].forecast) is not None:
        pictures["forecast.png"] = forecast.figure(found, title=f"Forecast and truth: {of_shown}")
    try:
        example = task.example()
        for part, name in zip(anatomy.look(net, params, example.inputs), ("gates", "gates_backward"), strict=False):
            pictures[f"{name}.png"] = gates.figure(part, example, title=f"Inside the net: {of_shown}")
    except anatomy.LeftOutError as reason:
        left_out.append(str(reason))
    for name, figure in pictures.items():
        style.save(figure, path / name)
    return Drawn(tuple(path / name for name in pictures), tuple(left_out))
