"""The run directory: where a run is kept, what it holds, and whether it may start, continue or be replaced.

config.toml  metrics.jsonl  model.safetensors  run.json  *.png, and training_state.safetensors while it is unfinished.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import jlstm
from experiments import device
from experiments.config import Request, UsageError
from experiments.schema import Config

ROOT = Path("runs")
LONGEST_NAME = 120  # of 255 that file systems allow, so that the path can be typed and read
PACKAGES = ("jax", "jaxlib", "numpy", "optax")


def place(request: Request) -> Path:
    """run.dir, or runs/<config>/<overrides>-s<seed>; an override is written as the value that it became."""
    config = request.config
    if config.run.dir:
        return Path(config.run.dir).expanduser()
    tables = config.model_dump()
    settings = []
    for name in request.overridden:
        table, key = name.split(".")
        if table != "run" and name != "train.seed":
            settings.append(f"{name}={tables[table][key]}")
    return ROOT / request.name / "-".join([*([_safe(",".join(settings))] if settings else []), f"s{config.train.seed}"])


def _safe(text: str) -> str:
    """A file name; where it had to be changed, a hash of `text` keeps it unique."""
    name = re.sub(r"[^A-Za-z0-9._=,+-]", "_", text)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class RunDirectory:
    """One run's files. `result` is what the run reached, None until it is finished."""

    def __init__(self, path: Path, config: Config, *, resume: bool = False, overwrite: bool = False) -> None:
        """Looks, and changes nothing. UsageError where a run is there and neither option says what to do with it."""
        self.path, self.config, self.overwrite = path, config, overwrite
        self.record: dict[str, Any] = {}
        self._began, self._earlier = time.monotonic(), 0.0
        self._refuse_foreign()
        if overwrite or not (path / "run.json").exists():
            return
        self.record = json.loads((path / "run.json").read_text())
        if self.record["config_sha256"] != config.sha256():
            raise UsageError(
                f"{path} holds a run of another config ({self._difference()}). "
                "Type --overwrite to replace it, or run.dir=runs/another."
            )
        if self.result is None and not resume:
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
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / "run.json").exists():
            raise UsageError(f"{self.path}: expected a run or nothing, got other files. Type run.dir=runs/another.")

    def _difference(self) -> str:
        """What the config there says otherwise, the first two keys of it."""
        there, here = tomllib.loads((self.path / "config.toml").read_text()), self.config.model_dump()
        found = [
            f"{table}.{key}: {there.get(table, {}).get(key)!r} there, {here.get(table, {}).get(key)!r} here"
            for table in sorted({*there, *here} - {"run"})
            for key in sorted({*there.get(table, {}), *here.get(table, {})})
            if there.get(table, {}).get(key) != here.get(table, {}).get(key)
        ]
        return "; ".join(found[:2]) or "its config.toml was changed"

    def begin(self, facts: dict[str, Any]) -> None:
        """Makes the directory, or empties it of the last run with overwrite; writes config.toml and run.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.overwrite:
            for file in self.path.iterdir():  # only what a run writes: nobody else's file is deleted
                if file.suffix in (".png", ".safetensors", ".jsonl") or file.name in ("config.toml", "sample.txt"):
                    file.unlink()
        _write(self.path / "config.toml", self.config.toml())
        self.update(
            status="running",
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

    def update(self, **entries: Any) -> None:
        """Writes entries into run.json."""
        self.record = {**self.record, **entries}
        _write(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def log(self, **entries: float) -> None:
        """Appends one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entries) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def seconds(self) -> float:
        """Wall time spent on this run, the processes before this one included."""
        return self._earlier + time.monotonic() - self._began

    def keep(self, state: Any, step: int) -> None:
        """Writes all that `restore` needs, in one file, so that a crash leaves the last one whole."""
        arrays = {name: np.asarray(leaf) for name, leaf in _named(state)}
        temporary = self.path / "training_state.tmp"
        save_file(arrays, temporary, metadata={"step": str(step), "seconds": str(self.seconds())})
        os.replace(temporary, self.path / "training_state.safetensors")

    def restore(self, template: Any) -> tuple[Any, int]:
        """The state kept last and its step, or (template, 0); metrics written after it are dropped."""
        file, step = self.path / "training_state.safetensors", 0
        if file.exists():
            with safe_open(file, framework="numpy") as stored:
                step, self._earlier = int(stored.metadata()["step"]), float(stored.metadata()["seconds"])
                leaves = [jax.numpy.asarray(stored.get_tensor(name)) for name, _ in _named(template)]
            template = jax.tree.unflatten(jax.tree.structure(template), leaves)
        lines = [line for line in self.metrics() if line["step"] <= step]
        _write(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return template, step

    def kept_step(self) -> int:
        """The step that `restore` would give."""
        file = self.path / "training_state.safetensors"
        if not file.exists():
            return 0
        with safe_open(file, framework="numpy") as stored:
            return int(stored.metadata()["step"])

    def finish(self, result: dict[str, Any]) -> None:
        """The run is done: what could continue it goes."""
        self.update(status="finished", result=result)
        (self.path / "training_state.safetensors").unlink(missing_ok=True)


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _write(file: Path, text: str) -> None:
    """The whole file or the old one, never half of it."""
    temporary = file.with_suffix(file.suffix + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)
