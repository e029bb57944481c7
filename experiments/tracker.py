"""Trackers, which receive a run's numbers besides metrics.jsonl: Weights & Biases, or a class of your own.

`log.tracker` is "" (none), "wandb", or "package.module:Class", which names a `Tracker`:

    class Print:
        def __init__(self, directory: Path) -> None: ...
        def begin(self, name: str, run_id: str, config: dict) -> None: print("begin", name)
        def log(self, line: dict) -> None: print(line)
        def finish(self, result: dict) -> None: print(result)
        def close(self, exit_code: int) -> None: ...
"""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from experiments.config import UsageError
from experiments.disk import reason

METHODS = ("begin", "log", "finish", "close")
LONGEST_NAME = 128  # wandb's server refuses a run with a longer name


class Tracker(Protocol):
    """The tracker of one process of a run. The methods are called in this order, `log` many times."""

    def __init__(self, directory: Path) -> None:
        """directory: the run's directory; a tracker may keep its own files there."""
        ...

    def begin(self, name: str, run_id: str, config: dict[str, Any]) -> bool | None:
        """Start the run, or continue it under the same id. Return False if earlier processes' lines are not kept."""
        ...

    def log(self, line: dict[str, Any]) -> None:
        """Log a line of metrics.jsonl: "step", in a sweep "member", and numbers, None for NaN or infinity.

        A resumed run logs the steps after its last checkpoint again.
        """
        ...

    def finish(self, result: dict[str, Any]) -> None:
        """Finish the run with the `result` of run.json. Not called if the run was stopped or has failed."""
        ...

    def close(self, exit_code: int) -> None:
        """Close the tracker before the process ends with this code. Called once in every case."""
        ...


class WandB:
    """Weights & Biases: one run with config, metrics and result. A resumed run continues the same one.

    The project is WANDB_PROJECT, or "jlstm". WANDB_MODE=offline keeps everything in the run's directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.run = directory, None

    def begin(self, name: str, run_id: str, config: dict[str, Any]) -> bool:
        self.run: Any = importlib.import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT") or "jlstm",
            name=name[:LONGEST_NAME],
            id=run_id,
            resume="allow",
            config=config,
            dir=str(self.directory),
        )
        # Our own axis: wandb's axis must not go back, but steps do in a sweep and after a checkpoint is restored.
        self.run.define_metric("*", step_metric="step")
        # Offline, wandb resumes nothing. Of two parts with one id the server keeps the later, which must be complete.
        return bool(self.run.resumed)

    def log(self, line: dict[str, Any]) -> None:
        step, member = line.pop("step"), line.pop("member", None)
        self.run.log({"step": step, **_of_member(line, member)})

    def finish(self, result: dict[str, Any]) -> None:
        rows = result.pop("members")
        for member, row in enumerate(rows):
            result |= _of_member(row, member if len(rows) > 1 else None)
        self.run.summary.update(result)

    def close(self, exit_code: int) -> None:
        if self.run is not None:
            self.run.finish(exit_code=exit_code)


class Guarded:
    """A tracker that cannot harm the run. At its first error `warn` gets one line; then only `close` is called.

    Its arguments are copies, so that it cannot change the run's records.
    """

    def __init__(
        self, make: Callable[[Path], Tracker] | None, name: str, directory: Path, warn: Callable[[str], None]
    ) -> None:
        self.name, self.warn, self.alive = name, warn, make is not None
        self.tracker: Any = None if make is None else self._try(lambda: make(directory))

    def begin(self, name: str, run_id: str, config: dict[str, Any], told: Iterable[dict[str, Any]]) -> None:
        """Begin the run. told: the lines of earlier processes, for a tracker that has not kept them."""
        if self.alive and self._try(lambda: self.tracker.begin(name, run_id, copy.deepcopy(config))) is False:
            for line in told:
                self.log(line)

    def log(self, line: dict[str, Any]) -> None:
        if self.alive:
            self._try(lambda: self.tracker.log(dict(line)))

    def finish(self, result: dict[str, Any]) -> None:
        if self.alive:
            self._try(lambda: self.tracker.finish(copy.deepcopy(result)))

    def close(self, exit_code: int) -> None:
        """Close the tracker, even if it has failed, since it may hold a process. A second error is not reported."""
        if self.tracker is not None:
            self._try(lambda: self.tracker.close(exit_code))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # any error; KeyboardInterrupt is not an Exception
            if self.alive:
                what = reason(error).rstrip(".")
                self.warn(f"log.tracker: {self.name} failed: {what}. It is left out, metrics.jsonl has it all.")
            self.alive = False
            return None


def make(name: str, directory: Path, warn: Callable[[str], None]) -> Guarded:
    """Return the tracker named by `log.tracker` for the run in `directory`. Raises UsageError if there is none."""
    return Guarded(find(name), name, directory, warn)


def find(name: str) -> Callable[[Path], Tracker] | None:
    """Return the class named by `log.tracker`, None for "". Raises UsageError if there is none."""
    if not name:
        return None
    if name == "wandb":
        try:  # a folder ./wandb imports as an empty package, so import a name from it
            from wandb import init  # noqa: F401  # pyright: ignore[reportMissingImports]
        except Exception as error:
            raise UsageError(
                f'log.tracker: cannot import wandb: {reason(error)}. Type pip install wandb, or log.tracker="".'
            ) from error
        return WandB
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise UsageError(f'log.tracker: expected "", "wandb" or "package.module:Class", got "{name}".')
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # any error at the import of that module
        raise UsageError(f'log.tracker: "{name}": cannot import {module}: {reason(error)}.') from error
    lacking = [method for method in METHODS if not callable(getattr(found, method, None))]
    if found is None or lacking:
        came = f"no {attribute}" if found is None else f"{attribute} without {', '.join(lacking)}"
        raise UsageError(f'log.tracker: "{name}": expected a class with {", ".join(METHODS)}, got {came}.')
    return found


def _of_member(values: Mapping[str, Any], member: int | None) -> dict[str, Any]:
    """Add the member of a sweep to the names after a slash, "loss/0". wandb shows one section per name."""
    return {name if member is None else f"{name}/{member}": value for name, value in values.items()}
