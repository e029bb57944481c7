"""Run one config, a single run or a sweep, and write its files; or do a dry run, which computes nothing."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jlstm
from experiments import compilation, device, disk, loop, report, results, sweep, table, tasks
from experiments import tracker as trackers
from experiments.checkpoints import Checkpoints
from experiments.config import Request
from experiments.directory import CHECKPOINTS, RunDirectory, place, place_of
from experiments.lock import Lock
from experiments.schema import Config
from experiments.signals import Signals

DONE, UNWRITABLE, DIVERGED = 0, 1, 3


def run(request: Request, to: Console, *, resume: bool, overwrite: bool) -> int:
    """Run every unfinished program of the config, print the results, and return the exit code."""
    path = place(request)
    # Each call then runs in its calling thread, so the threads of a sweep do not occupy the pool that they wait for.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        return _run(request, path, to, resume=resume, overwrite=overwrite)
    except Exception as error:
        if (words := disk.refusal(error)) is None:
            raise
        to.print(f"{path}: cannot be written to: {words}. Fix the cause, then continue with --resume.", markup=False)
        return UNWRITABLE


def _run(request: Request, path: Path, to: Console, *, resume: bool, overwrite: bool) -> int:
    settings = sweep.settings(request.config)
    places = [place_of(setting, path) for setting in settings]
    # Every check comes before any work. Check for a running process first, then for its unfinished files.
    trackers.find(request.config.log.tracker)
    for at in places:
        Lock(at).check()
    directories = [
        RunDirectory(at, setting.config, resume=resume, overwrite=overwrite)
        for at, setting in zip(places, settings, strict=True)
    ]
    compilation.keep(request.config.run.compilation_cache)
    codes = []
    with Signals() as signals:
        for setting, directory in zip(settings, directories, strict=True):
            if signals.received:
                to.print(f"{path}: {signals.received.name}. Type --resume to continue.", markup=False)
                return 128 + signals.received
            codes.append(_run_setting(setting, directory, request.name, to, signals))
            if codes[-1] not in (DONE, DIVERGED):
                return codes[-1]
    if not sweep.is_single(request.config):
        table.gather([path], to, write=path)
    return max(codes)


def _run_setting(setting: sweep.Setting, directory: RunDirectory, name: str, to: Console, signals: Signals) -> int:
    """Train and evaluate one program, and write its directory."""
    path, config = directory.path, setting.config
    if directory.result is not None:
        to.print(f"{path}: finished before. Type --overwrite to run it again.", markup=False)
        report.show_result(to, path, directory.record)
        return DONE

    def warn(line: str) -> None:
        to.print(f"warning: {line}", style="yellow", markup=False)

    code, task = DONE, tasks.make(config)  # before the directory is made, in case the data cannot be read
    with ExitStack() as stack:
        stack.enter_context(Lock(path))
        directory.look()  # again, now that no other process writes here
        to.print(f"device: {device.describe()}", markup=False)
        if line := device.warning():
            warn(line)
        directory.begin(task.facts)
        tracker = trackers.make(config.log.tracker, path, warn)
        # Closed after the checkpoints, which must not wait for a network. An exception ends the process with code 1.
        stack.push(lambda kind, *_: tracker.close(code if kind is None else 1))
        directory.listener = tracker.log
        try:
            tracker.begin(f"{name}/{path.name}", directory.record["id"], config.model_dump(), directory.metrics())
            if "baselines" not in directory.record:
                directory.update(baselines=task.baselines())
            checkpoints = Checkpoints(
                path / CHECKPOINTS, keep=config.checkpoint.keep, higher_is_better=task.higher_is_better, warn=warn
            )
            stack.callback(checkpoints.close)
            progress = stack.enter_context(report.Progress(to))
            outcome = loop.train(config, task, setting.members, directory, checkpoints, progress, signals)
            results.write(directory, setting, task, outcome, name, to)
            tracker.finish(directory.record["result"])
        except loop.DivergedError as error:
            directory.update(status="failed", reason=str(error))
            to.print(f"{path}: stopped: {error}", style="red", markup=False)
            code = DIVERGED
        except loop.SignalError as stop:
            received, step = stop.args
            directory.update(status="interrupted")
            to.print(f"\n{path}: {received.name} at step {step}, saved. Type --resume to continue.", markup=False)
            code = 128 + received
        except KeyboardInterrupt:
            directory.update(status="interrupted")
            to.print(f"\n{path}: stopped at once. Type --resume to continue from the last checkpoint.", markup=False)
            code = 128 + signal.SIGINT
        except BaseException as error:
            directory.update(status="failed", reason=f"{type(error).__name__}: {error}")
            raise
    if code == DONE:
        report.show_result(to, path, directory.record)
    return code


def dry_run(config: Config, to: Console) -> int:
    """Print the shapes of batch, parameters and output, and the number of parameters, of every program."""
    for setting in sweep.settings(config):
        for key, value in setting.static.items():
            to.print(f"{key}: {value}", markup=False)
        _dry_run(setting, to)
    return DONE


def _dry_run(setting: sweep.Setting, to: Console) -> None:
    task = tasks.make(setting.config)
    batch, key = task.batch_shape(), jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(task.init, key)
    _, output = jax.eval_shape(
        lambda p, x: jlstm.unroll(task.net, p, x, return_sequences=task.sequences), params, batch
    )
    rows: list[tuple[str, Any]] = [("batch", batch), ("output", output)]
    rows += [(f"params{jax.tree_util.keystr(at)}", leaf) for at, leaf in jax.tree_util.tree_leaves_with_path(params)]
    for name, leaf in rows:
        to.print(f"{name:32}{leaf.dtype.name:10}{leaf.shape}", markup=False)
    members = f", times {len(setting.members)} members" if len(setting.members) > 1 else ""
    to.print(f"parameters: {sum(leaf.size for leaf in jax.tree.leaves(params)):,}{members}", markup=False)
