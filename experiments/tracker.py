"""Who else is told a run's numbers, beside metrics.jsonl: Weights & Biases, or a class of your own.

`log.tracker` is "" (nobody), "wandb", or "package.module:Class", which names a `Tracker`:

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
LONGEST_NAME = 128  # wandb's server refuses the whole run where its name is longer


class Tracker(Protocol):
    """One process's part of a run. The methods are called in this order, `log` many times."""

    def __init__(self, directory: Path) -> None:
        """directory: where the run is kept; a tracker may keep files of its own there."""
        ...

    def begin(self, name: str, run_id: str, config: dict[str, Any]) -> bool | None:
        """The run starts, or goes on: then under the same id. False: what an earlier process told is not kept."""
        ...

    def log(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl: "step", in a sweep "member", and numbers, None for one that is no number.

        A run that goes on tells the steps behind its last checkpoint again.
        """
        ...

    def finish(self, result: dict[str, Any]) -> None:
        """The run is done; `result` is that of run.json. Not called where it was stopped or has failed."""
        ...

    def close(self, exit_code: int) -> None:
        """The process is about to end, with this code. Called once, whatever happened before."""
        ...


class WandB:
    """Weights & Biases: a run of its own, the same one when it is resumed, with config, metrics and result.

    The project is WANDB_PROJECT, or "jlstm"; WANDB_MODE=offline keeps all of it in the run's directory.
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
        # An axis of our own: wandb's may never go back, as steps do in a sweep and behind a checkpoint.
        self.run.define_metric("*", step_metric="step")
        # Offline nothing is resumed, and of two parts with one id the server keeps the later: that must have all.
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
    """A tracker that cannot hurt the run: at its first error `warn` gets one line, and it is told no more.

    What it is handed is copied, so that it can change none of the run's records.
    """

    def __init__(
        self, make: Callable[[Path], Tracker] | None, name: str, directory: Path, warn: Callable[[str], None]
    ) -> None:
        self.name, self.warn, self.alive = name, warn, make is not None
        self.tracker: Any = None if make is None else self._try(lambda: make(directory))

    def begin(self, name: str, run_id: str, config: dict[str, Any], told: Iterable[dict[str, Any]]) -> None:
        """told: the lines of an earlier process, for a tracker that has not kept them."""
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
        """Also a tracker that has failed, since it may hold a process; that it fails again is no news."""
        if self.tracker is not None:
            self._try(lambda: self.tracker.close(exit_code))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # whatever it is; Ctrl-C is none
            if self.alive:
                what = reason(error).rstrip(".")
                self.warn(f"log.tracker: {self.name} failed: {what}. It is left out, metrics.jsonl has it all.")
            self.alive = False
            return None


def make(name: str, directory: Path, warn: Callable[[str], None]) -> Guarded:
    """The tracker that a value of `log.tracker` means, for the run in `directory`; UsageError where there is none."""
    return Guarded(find(name), name, directory, warn)


def find(name: str) -> Callable[[Path], Tracker] | None:
    """The class that a value of `log.tracker` means, None for ""; UsageError where there is none."""
    if not name:
        return None
    if name == "wandb":
        try:  # a folder ./wandb imports as an empty package: look for what is needed
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
    except Exception as error:  # whatever that module does when it is imported
        raise UsageError(f'log.tracker: "{name}": cannot import {module}: {reason(error)}.') from error
    lacking = [method for method in METHODS if not callable(getattr(found, method, None))]
    if found is None or lacking:
        came = f"no {attribute}" if found is None else f"{attribute} without {', '.join(lacking)}"
        raise UsageError(f'log.tracker: "{name}": expected a class with {", ".join(METHODS)}, got {came}.')
    return found


def _of_member(values: Mapping[str, Any], member: int | None) -> dict[str, Any]:
    """In a sweep the names with the member behind a slash, "loss/0": wandb shows those in one section a name."""
    return {name if member is None else f"{name}/{member}": value for name, value in values.items()}
