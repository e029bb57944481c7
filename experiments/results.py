"""Write the results of trained nets at the end of a run: weights, a text, pictures, and the rows of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jlstm
from experiments import pictures
from experiments.directory import RunDirectory
from experiments.loop import Outcome
from experiments.sweep import Setting
from experiments.tasks import Task
from experiments.tasks.findings import Findings
from experiments.train import NEVER


def write(directory: RunDirectory, setting: Setting, task: Task, outcome: Outcome, name: str, to: Console) -> None:
    """Write all files of a run or a sweep that has reached its end; the result in its run.json comes last."""
    path, members, n = directory.path, setting.members, len(setting.members)
    nets = [jax.tree.map(lambda leaf, i=i: leaf[i], outcome.state.params) for i in range(n)]
    findings, rows = [], []
    for i, (member, params) in enumerate(zip(members, nets, strict=True)):
        jlstm.save(model_file(path, i, n), task.net, params)
        at, value = int(outcome.state.diverged_at[i]), float(outcome.values[i])
        key = jax.random.fold_in(jax.random.key(member["train.seed"]), 2)
        findings.append(task.findings(params, key) if at == NEVER else Findings())
        rows.append({
            **setting.static, **member,
            "value": value if np.isfinite(value) else None,
            "diverged_at": None if at == NEVER else at,
            **findings[-1].numbers,
        })  # fmt: skip
    best = int((np.nanargmax if task.higher_is_better else np.nanargmin)(outcome.held_out))  # never by the test data
    if (text := findings[best].text) is not None:
        (path / "sample.txt").write_text(text, encoding="utf-8")
    config = setting.config
    wrapped = "".join(f" in {wrapper.name}" for wrapper in config.model.wrappers)
    what = f"{name}, {config.model.cell} {config.model.hidden_size}{wrapped}"
    drawn = pictures.draw(
        path,
        task,
        task.net,
        nets[best],
        findings,
        directory.metrics(),
        directory.record["baselines"],
        f"{what}, {n} members" if n > 1 else f"{what}, seed {members[0]['train.seed']}",
        groups=[_group(member) for member in members] if n > 1 else (),
        shown=best,
        shown_title=f"the best: {_group(members[best])} seed {members[best]['train.seed']}".replace(":  ", ": ")
        if n > 1
        else "",
    )
    for line in drawn.left_out:
        to.print(line, markup=False)
    directory.finish({
        "measure": task.measure,
        "unit": task.unit,
        "higher_is_better": task.higher_is_better,
        "steps": outcome.step,
        "seconds": round(directory.seconds(), 1),
        "members": rows,
    })  # fmt: skip


def model_file(path: Path, i: int, n: int) -> Path:
    """Return the file of member `i` of `n`."""
    return path / ("model.safetensors" if n == 1 else f"model-{i:0{len(str(n - 1))}d}.safetensors")


def _group(member: Mapping[str, Any]) -> str:
    """Return the values that members share if only their seeds differ."""
    return ", ".join(f"{key.partition('.')[2]} {value:g}" for key, value in member.items() if key != "train.seed")
