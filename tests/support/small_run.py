"""One small run of the experiments, which all tests of the runner share, and so its compiled programs, too."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from experiments import config, report, schema, tasks
from experiments.run import CONFIGS, main

ADDING = str(CONFIGS / "adding.toml")
TINY = [
    "task.length=8", "task.held_out=16", "model.hidden_size=4", "model.dropout=0.1", "train.batch_size=4",
    "train.steps=6", "train.steps_per_call=2", "train.eval_every=3", "checkpoint.every=3",
]  # fmt: skip


def load(*overrides: str) -> schema.Config:
    """The config of the adding problem, with overrides."""
    return config.load(ADDING, overrides).config


def made(name: str, *overrides: str) -> Any:
    """A small task from its own config."""
    tiny = ["model.hidden_size=3", "model.dropout=0.0", "train.batch_size=4"]
    return tasks.make(config.load(str(CONFIGS / f"{name}.toml"), [*tiny, *overrides]).config)


def errors(shown: pytest.CaptureFixture[str], *argv: str, main: Callable[..., int] = main) -> list[str]:
    """The lines that a wrong command line prints."""
    assert main(argv) == 2
    out, err = shown.readouterr()
    assert out == ""
    return err.splitlines()


def begins(line: str, words: str) -> bool:
    """True for a line that begins with the words, where "..." stands for any text."""
    return re.match(re.escape(words).replace(re.escape("..."), ".*"), line) is not None


def stopped(number: signal.Signals, at: int = 5) -> Any:
    """A context in which a run sends itself this signal after step `at`."""
    advance = report.Progress.advance

    def interrupt(self: report.Progress, step: int, loss: float, *, quiet: bool = False) -> None:
        advance(self, step, loss, quiet=quiet)
        if step == at:
            os.kill(os.getpid(), number)

    return mock.patch.object(report.Progress, "advance", interrupt)


def record(run: str | Path = "r") -> dict[str, Any]:
    """The run.json of a run."""
    return json.loads(Path(run, "run.json").read_text())


def lines(file: str | Path) -> list[dict[str, Any]]:
    """JSON lines, strictly: NaN is none."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return [json.loads(line, parse_constant=refuse) for line in Path(file).read_text().splitlines()]
