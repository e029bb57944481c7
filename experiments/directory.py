"""The run directory: its path, its files, and the checks before a run starts, continues or is replaced.

config.toml  metrics.jsonl  model.safetensors  run.json  *.png  checkpoints/
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jlstm
from experiments import device
from experiments.config import Request, UsageError
from experiments.schema import NO_NUMBERS, PLAIN_MODEL, Config
from experiments.sweep import Setting

ROOT = Path("runs")
CHECKPOINTS = "checkpoints"
BEFORE_A_RUN = {"lock", "run.json.tmp"}  # left by a process that was killed before it wrote run.json
LONGEST_NAME = 120  # file systems allow 255; shorter names are easier to type and read
PACKAGES = ("jax", "jaxlib", "numpy", "optax")


def place(request: Request) -> Path:
    """Return run.dir, or runs/<config>/<overrides>-s<seed>. An override has its value in the resolved config."""
    config = request.config
    if config.run.dir:
        return Path(config.run.dir).expanduser()
    tables = config.model_dump()
    settings = []
    for name in request.overridden:
        table, *keys = name.split(".")
        if table not in NO_NUMBERS and name not in ("train.seed", "sweep.seeds"):
            value = functools.reduce(lambda value, key: value[key], keys, tables[table])
            settings.append(f"{name}={json.dumps(value).replace(' ', '') if isinstance(value, list) else value}")
    first, seeds = config.train.seed, config.sweep.seeds
    seed = f"s{first}" if seeds == 1 else f"s{first}-{first + seeds - 1}"
    return ROOT / request.name / "-".join([*([_safe(",".join(settings))] if settings else []), seed])


def place_of(setting: Setting, place: Path) -> Path:
    """Return the directory of one program of a sweep, inside the sweep's `place`; without static keys, `place`."""
    name = ",".join(f"{key}={value}" for key, value in setting.static.items())
    return place / _safe(name) if name else place


def _safe(text: str) -> str:
    """Return `text` as a file name. If characters had to change, a hash of `text` keeps the name unique."""
    name = re.sub(r"[^A-Za-z0-9._=,+-]", "_", text)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class RunDirectory:
    """The files of one run. `result` is the run's result, None until it is finished."""

    def __init__(self, path: Path, config: Config, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path, self.config, self.resume, self.overwrite = path, config, resume, overwrite
        self._began, self._earlier = time.monotonic(), 0.0
        self.listener: Callable[[dict[str, Any]], None] = lambda line: None  # receives every line of metrics
        self.look()

    def look(self) -> None:
        """Read the directory and change nothing. Raises UsageError if this run may neither start nor continue there."""
        path, config = self.path, self.config
        self.record: dict[str, Any] = {}
        self._refuse_foreign()
        if self.overwrite or not (path / "run.json").exists():
            return
        self.record = json.loads((path / "run.json").read_text())
        if self.record["config_sha256"] != config.sha256():
            raise UsageError(
                f"{path} holds a run of another config ({self._difference()}). "
                "Type --overwrite to replace it, or run.dir=runs/another."
            )
        if self.result is None and not self.resume:
            raise UsageError(
                f"{path} holds an unfinished run ({self.record['status']}). "
                "Type --resume to continue it, or --overwrite to start again."
            )

    @property
    def result(self) -> dict[str, Any] | None:
        return self.record.get("result")

    def _refuse_foreign(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: expected a directory, got a file. Type run.dir=runs/another.")
        there = {file.name for file in self.path.iterdir()} - BEFORE_A_RUN if self.path.exists() else set()
        if there and "run.json" not in there:
            raise UsageError(f"{self.path}: expected a run or nothing, got other files. Type run.dir=runs/another.")

    def _difference(self) -> str:
        """Return the first two keys in which the stored config differs."""
        there, here = self.record["config"], self.config.model_dump()
        there = there | {"model": PLAIN_MODEL | there.get("model", {})}
        found = [
            f"{table}.{key}: {there.get(table, {}).get(key)!r} there, {here.get(table, {}).get(key)!r} here"
            for table in sorted({*there, *here} - {*NO_NUMBERS})
            for key in sorted({*there.get(table, {}), *here.get(table, {})})
            if there.get(table, {}).get(key) != here.get(table, {}).get(key)
        ]
        return "; ".join(found[:2]) or "its run.json was changed"

    def begin(self, facts: dict[str, Any]) -> None:
        """Make the directory, write run.json and config.toml; with overwrite, delete the last run's files."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()
        # First, so that a run killed from here on counts as unfinished and does not show the last run's result.
        self.update(
            status="running",
            id=self.record.get("id") or secrets.token_hex(8),  # the run's id in a tracker
            config=self.config.model_dump(),
            config_sha256=self.config.sha256(),
            seed=self.config.train.seed,
            device=device.describe(),
            versions={
                "python": platform.python_version(),
                "jlstm": getattr(jlstm, "__version__", "unknown"),
                **{name: importlib.metadata.version(name) for name in PACKAGES},
            },
            data=facts,
            started=self.record.get("started") or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        if self.overwrite:
            for file in self.path.iterdir():  # only files that a run writes; other files are kept
                if file.suffix in (".png", ".safetensors", ".jsonl") or file.name == "sample.txt":
                    file.unlink()
            shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        _write(self.path / "config.toml", self.config.toml())

    def update(self, **entries: Any) -> None:
        """Write entries into run.json."""
        self.record = {**self.record, **entries}
        _write(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def log_members(self, step: int, going: np.ndarray, **columns: Any) -> None:
        """Append a line to metrics.jsonl for every member that is `going` `[N]`. A column is `[N]` or one number.

        A single run's lines have no `member`. NaN and infinity become null, since JSON has neither.
        """
        lines: list[dict[str, Any]] = []
        for i in np.flatnonzero(going):
            values = {name: float(np.broadcast_to(column, going.shape)[i]) for name, column in columns.items()}
            member = {"member": int(i)} if len(going) > 1 else {}
            finite = {name: value if np.isfinite(value) else None for name, value in values.items()}
            lines.append({"step": step, **member, **finite})
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(_json_lines(lines))
        for line in lines:
            self.listener(line)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl."""
        file = self.path / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        # A process that is killed may leave half a line at the end.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def seconds(self) -> float:
        """Return the wall time spent on this run, including earlier processes."""
        return self._earlier + time.monotonic() - self._began

    def rewind(self, step: int, seconds: float) -> None:
        """Continue the run from `step`, after `seconds`. Later lines are dropped, also half a line."""
        self._earlier = seconds
        lines = [line for line in self.metrics() if line["step"] <= step]
        _write(self.path / "metrics.jsonl", _json_lines(lines))

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as finished and store its result."""
        self.update(status="finished", result=result)


def _json_lines(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def _write(file: Path, text: str) -> None:
    """Replace a file atomically: readers see the new text or the old one, never half of it."""
    temporary = file.with_suffix(file.suffix + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)
