"""One run from its config to its files; and the dry run, which computes nothing."""

from __future__ import annotations

from typing import Any

import jax
from rich.console import Console

import jlstm
from experiments import device, plot, report, tasks
from experiments.config import Request
from experiments.directory import RunDirectory, place
from experiments.schema import Config
from experiments.train import DivergedError, train

DIVERGED, INTERRUPTED = 3, 130


def run(request: Request, to: Console, *, resume: bool, overwrite: bool) -> int:
    """Trains, evaluates, writes the run directory and prints the result; returns the exit code."""
    path, config = place(request), request.config
    directory = RunDirectory(path, config, resume=resume, overwrite=overwrite)
    if directory.result is not None:
        to.print(f"{path}: finished before. Type --overwrite to run it again.", markup=False)
        report.show_result(to, path, directory.record)
        return 0
    task = tasks.make(config)
    to.print(f"device: {device.describe()}", markup=False)
    if warning := device.warning():
        to.print(f"warning: {warning}", style="yellow", markup=False)
    directory.begin(task.facts)
    try:
        if "baselines" not in directory.record:
            directory.update(baselines=task.baselines())
        with report.Progress(to) as progress:
            params, held_out = train(config, task, directory, progress)
        _finish(directory, task, params, held_out, request.name)
    except DivergedError as error:
        directory.update(status="failed", reason=str(error))
        to.print(f"{path}: stopped: {error}", style="red", markup=False)
        return DIVERGED
    except KeyboardInterrupt:
        directory.update(status="interrupted")
        to.print(f"\n{path}: interrupted. Type --resume to continue at step {directory.kept_step()}.", markup=False)
        return INTERRUPTED
    except BaseException as error:
        directory.update(status="failed", reason=f"{type(error).__name__}: {error}")
        raise
    report.show_result(to, path, directory.record)
    return 0


def _finish(directory: RunDirectory, task: tasks.Task, params: Any, held_out: float, name: str) -> None:
    """Everything that is made of the trained net."""
    path, config = directory.path, directory.config
    title = f"{name}, {config.model.cell} {config.model.hidden_size}, seed {config.train.seed}"
    jlstm.save(path / "model.safetensors", task.net, params)
    sample = task.findings(params, jax.random.fold_in(jax.random.key(config.train.seed), 2)).text
    if sample is not None:
        (path / "sample.txt").write_text(sample, encoding="utf-8")
    plot.learning_curve(
        path / "learning_curve.png",
        directory.metrics(),
        directory.record["baselines"],
        title=f"{title}: {task.measure} {held_out:.4g} on held-out data",
        measure=f"{task.measure} [{task.unit}]",
        log_scale=task.log_scale,
    )
    directory.finish({
        "measure": task.measure,
        "held_out": held_out,
        "steps": config.train.steps,
        "seconds": round(directory.seconds(), 1),
    })  # fmt: skip


def dry_run(config: Config, to: Console) -> int:
    """The shapes of batch, parameters and output, and the number of parameters."""
    task = tasks.make(config)
    batch, key = task.batch_shape(), jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(task.init, key)
    _, output = jax.eval_shape(
        lambda p, x: jlstm.unroll(task.net, p, x, return_sequences=task.sequences), params, batch
    )
    rows = [("batch", batch), ("output", output)]
    rows += [(f"params{jax.tree_util.keystr(at)}", leaf) for at, leaf in jax.tree_util.tree_leaves_with_path(params)]
    for name, leaf in rows:
        to.print(f"{name:32}{leaf.dtype.name:10}{leaf.shape}", markup=False)
    to.print(f"parameters: {sum(leaf.size for leaf in jax.tree.leaves(params)):,}", markup=False)
    return 0
