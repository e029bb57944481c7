"""Where a run's numbers go: JSON lines always, and one tracker beside them, Weights & Biases or a class of your own.

A class of your own is a `Sink` that is made from the run's directory, and is named "package.module:Class":

    class Print:
        def __init__(self, directory: Path) -> None: ...
        def begin(self, config: dict, name: str) -> None: print("begin", name)
        def log(self, step: int, values: dict) -> None: print(step, values)
        def finish(self, summary: dict) -> None: print(summary)
        def close(self) -> None: ...
"""

from __future__ import annotations

import importlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from experiments.config import UsageError

METRICS = "metrics.jsonl"
TOLD = "tracker.jsonl"  # what the tracker was told; like every .jsonl of a run, it goes with --overwrite
WANDB_ID = "wandb.jsonl"
METHODS = ("begin", "log", "finish", "close")


class Sink(Protocol):
    """What takes the numbers of one run, from `begin` to `close`."""

    def begin(self, config: dict[str, Any], name: str) -> bool | None:
        """The run starts, or goes on. False: nothing of an earlier process is kept, tell everything again."""
        ...

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers by name after `step` steps; in a sweep with the number of the "member" among them."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is done; `summary` is its result."""
        ...

    def close(self) -> None:
        """The process ends, the run finished or not. Called once, whatever happened before."""
        ...


class JsonLines:
    """One line a call in metrics.jsonl. A number that is none (a diverged loss) is null: NaN is no JSON."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / METRICS

    def begin(self, config: dict[str, Any], name: str) -> None:
        pass

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        _append(self.file, {"step": step, **{key: _finite(value) for key, value in values.items()}})

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class WandB:
    """Weights & Biases. The project is WANDB_PROJECT, or "jlstm"; WANDB_MODE=offline keeps it all in the directory.

    Steps are a metric of their own, and the axis of all others: wandb's own step may never go back, as it does from
    one part of a sweep to the next, and after a crash.
    """

    def __init__(self, directory: Path) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            wandb = None
        if not hasattr(wandb, "init"):  # a directory ./wandb, which it leaves behind, imports as an empty package
            raise UsageError('log.tracker: wandb is not installed. Type pip install wandb, or log.tracker="".')
        self.wandb: Any = wandb
        self.directory = directory
        self.run: Any = None

    def begin(self, config: dict[str, Any], name: str) -> bool:
        file = self.directory / WANDB_ID
        ids = [line["id"] for line in _lines(file) if "id" in line]
        if not ids:
            ids = [secrets.token_hex(4)]
            _append(file, {"id": ids[0]})
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "jlstm",
            name=name,
            config=config,
            dir=str(self.directory),
            id=ids[-1],
            resume="allow",
        )
        self.run.define_metric("*", step_metric="step")
        # Offline, wandb cannot resume, and of two parts with one id the server keeps the later: it must have all.
        return bool(self.run.resumed)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self.run.log({"step": step, **dict(_by_member(values))})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(summary))
        run, self.run = self.run, None
        run.finish(exit_code=0)

    def close(self) -> None:
        if self.run is not None:
            run, self.run = self.run, None
            run.finish(exit_code=1)


class _Tracker:
    """A tracker that cannot hurt the run: told nothing twice, left out from its first error on.

    What it was told is kept in the directory. A resumed run repeats steps behind its checkpoint: those are not told
    again; and what metrics.jsonl holds and the tracker has not heard, since it failed or starts empty, is told first.
    """

    def __init__(self, sink: Sink, directory: Path, name: str, warn: Callable[[str], None]) -> None:
        self.sink, self.directory, self.name, self.warn = sink, directory, name, warn
        self.told: dict[str, int] = {}  # the last step told, by name and member
        self.alive = True

    def begin(self, config: dict[str, Any], name: str) -> None:
        file, metrics = self.directory / TOLD, list(_lines(self.directory / METRICS))
        try:
            if self.sink.begin(config, name) is False:
                file.unlink(missing_ok=True)
        except Exception as error:
            if metrics:  # hours of work: they go on without
                self._fail("could not start", error)
                return
            self.close()
            raise UsageError(
                f'log.tracker: {self.name} could not start: {_show(error)}. Mend it, or type log.tracker="".'
            ) from error
        for line in _lines(file):
            self.told.update(dict.fromkeys(line["keys"], line["step"]))
        file.unlink(missing_ok=True)  # written anew, since to a torn last line nothing can be added
        for step in sorted(set(self.told.values())):
            _append(file, {"step": step, "keys": [key for key, last in self.told.items() if last == step]})
        for line in metrics:
            self.log(line.pop("step"), {key: math.nan if value is None else value for key, value in line.items()})

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        member = {key: value for key, value in values.items() if key == "member"}
        keys = {key: _key(key, member.get("member")) for key in values if key not in member}
        new = {key: values[key] for key in keys if step > self.told.get(keys[key], -1)}
        if not (self.alive and new):
            return
        try:
            self.sink.log(step, {**new, **member})
        except Exception as error:
            self._fail(f"failed at step {step}", error)
            return
        told = [keys[key] for key in new]
        _append(self.directory / TOLD, {"step": step, "keys": told})
        self.told.update(dict.fromkeys(told, step))

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self.alive:
            try:
                self.sink.finish(summary)
            except Exception as error:
                self._fail("failed at the end", error)

    def close(self) -> None:
        """Also a tracker that failed is closed; that it fails then, too, is no news."""
        try:
            self.sink.close()
        except Exception as error:
            if self.alive:
                self._fail("failed to close", error)
        self.alive = False

    def _fail(self, what: str, error: Exception) -> None:
        self.alive = False
        kept = self.directory / METRICS
        self.warn(f"log.tracker: {self.name} {what}, and is left out from here on: {_show(error)}. {kept} has it all.")


class Both:
    """JSON lines first, so that they hold whatever the tracker was told."""

    def __init__(self, lines: JsonLines, tracker: _Tracker | None) -> None:
        self.sinks: tuple[Sink, ...] = (lines,) if tracker is None else (lines, tracker)

    def begin(self, config: dict[str, Any], name: str) -> None:
        for sink in self.sinks:
            sink.begin(config, name)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        # Python's own numbers, whatever NumPy or jax gave.
        values = {key: value.item() if hasattr(value, "item") else value for key, value in values.items()}
        for sink in self.sinks:
            sink.log(int(step), values)

    def finish(self, summary: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink.finish(summary)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def make(name: str, directory: Path, warn: Callable[[str], None] = print) -> Both:
    """The sink of a run in `directory`: JSON lines, and the tracker `name`: "", "wandb" or "package.module:Class".

    warn: gets the one line that says that a tracker failed. Raises UsageError where `name` is nothing that can be
    made; `begin` raises it where the tracker of a run that has no metrics yet cannot start.
    """
    tracker = None
    if name:
        make_sink = WandB if name == "wandb" else _load(name)
        try:
            sink = make_sink(directory)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f'log.tracker: "{name}": cannot be made from a directory: {_show(error)}.') from error
        tracker = _Tracker(sink, directory, name, warn)
    return Both(JsonLines(directory), tracker)


def _load(name: str) -> Callable[[Path], Sink]:
    """The class that "package.module:Class" names."""
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise UsageError(f'log.tracker: expected "", "wandb" or "package.module:Class", got "{name}".')
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever that module does when it is imported
        raise UsageError(f'log.tracker: "{name}": cannot import {module}: {_show(error)}.') from error
    lacking = [method for method in METHODS if not callable(getattr(found, method, None))]
    if found is None or lacking:
        came = f"no {attribute}" if found is None else f"{attribute} without {', '.join(lacking)}"
        raise UsageError(f'log.tracker: "{name}": expected a class with {", ".join(METHODS)}, got {came}.')
    return found


def _key(name: str, member: Any) -> str:
    return name if member is None else f"{name}/{member}"


def _by_member(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names with the member behind a slash, which wandb shows in one section a name."""
    for key, value in values.items():
        if key != "member":
            yield _key(key, values.get("member")), value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(error: Exception) -> str:
    """One line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _append(file: Path, line: Mapping[str, Any]) -> None:
    with open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(line, allow_nan=False) + "\n")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, if it is there; a crash may leave a torn one."""
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue
