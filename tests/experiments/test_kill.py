"""Real processes, real signals: a run that is killed, asked to stop, or refused ends like one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import orbax.checkpoint.experimental.v1 as ocp
import pytest
from small_run import ADDING, lines, record

from experiments.run import CONFIGS, main

RUN = [
    ADDING, "task.length=60", "task.held_out=32", "model.hidden_size=32", "model.dropout=0.1",
    "train.batch_size=32", "train.steps=80", "train.steps_per_call=1", "train.eval_every=9",
    "checkpoint.every=4", "log.every=2",
]  # fmt: skip
SWEEP = ["sweep.seeds=2", "sweep.train.learning_rate=[1e-3, 1e-2]"]


class Process:
    """The command, in a process of its own, with its output in a file."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.directory, self.log = directory, directory.with_suffix(".log")
        environment = {
            **os.environ,
            "PYTHONPATH": str(CONFIGS.parent),
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=1"),
            "JAX_COMPILATION_CACHE_DIR": str(directory.parent / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-m", "experiments.run", *RUN, f"run.dir={directory}", *more, "--resume"]
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, cwd=CONFIGS.parent, env=environment, stdout=log, stderr=log)

    def metrics(self) -> int:
        file = self.directory / "metrics.jsonl"
        return file.read_text().count("\n") if file.exists() else 0

    def checkpoints(self) -> list[int]:
        """The steps of those that are written whole (another name stands over one that is being written)."""
        found = (self.directory / "checkpoints").glob("*")
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def wait_for_checkpoints(self, count: int) -> None:
        """Wait for so many whole ones, which lines of metrics do not tell: they are written beside the steps."""
        while self.process.poll() is None and len(self.checkpoints()) < count:
            time.sleep(0.002)

    def wait_for(self, lines: int) -> None:
        """Wait until metrics.jsonl has so many lines more, or the process ends."""
        before = self.metrics()
        while self.process.poll() is None and self.metrics() < before + lines:
            before = min(before, self.metrics())  # the run goes back to its checkpoint
            time.sleep(0.002)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def finish(self) -> None:
        assert self.process.wait(timeout=120) == 0, self.log.read_text()


def ends(directory: Path) -> tuple[bytes, list[dict[str, Any]], list[bytes]]:
    """All that must be equal: the last checkpoint, the metrics but for their clock, and the weights."""
    metrics = lines(directory / "metrics.jsonl")
    metrics = [{key: value for key, value in line.items() if key != "steps_per_second"} for line in metrics]
    weights = [file.read_bytes() for file in sorted(directory.glob("*.safetensors"))]
    steps = tomllib.loads((directory / "config.toml").read_text())["train"]["steps"]
    tree: Any = ocp.load(str(directory / "checkpoints" / str(steps)))
    _, header, state = tree["packed"].tobytes().split(b"\n", 2)  # a seal, which covers the clock, too
    assert json.loads(header)["facts"]["pending"] is None
    return state, metrics, weights


def check_ends_like_a_run_left_alone(directory: Path, *more: str) -> None:
    Process(directory, *more).finish()
    Process(whole := directory.with_name("whole"), *more).finish()
    assert ends(directory) == ends(whole)


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_asked_to_stop_ends_like_one_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL, the newest checkpoint damaged besides; then SIGUSR1. No second process may run it meanwhile."""
    path = tmp_path / "parts"
    first = Process(path, *SWEEP)
    first.wait_for(lines=1)
    for option in ("--resume", "--overwrite"):
        assert main([*RUN, *SWEEP, f"run.dir={path}", option]) == 2
        assert f"process {first.process.pid} is running it" in capsys.readouterr().err
    first.wait_for_checkpoints(2)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL, first.log.read_text()
    assert record(path)["status"] == "running"
    newest = first.checkpoints()[-1]
    for file in (path / "checkpoints" / str(newest)).rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:40])
    second = Process(path, *SWEEP)
    second.wait_for(lines=8)
    assert second.end(signal.SIGUSR1) == 128 + signal.SIGUSR1
    log = second.log.read_text()
    assert f"warning: checkpoint {newest} cannot be read" in log and "SIGUSR1 at step" in log
    assert record(path)["status"] == "interrupted"
    check_ends_like_a_run_left_alone(path, *SWEEP)


def test_no_import_swallows_ctrl_c(tmp_path: Path) -> None:
    """The first package that the command imports stands for all that do."""
    swallows = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    (tmp_path / "pydantic.py").write_text(swallows)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{CONFIGS.parent}"}
    done = subprocess.run([sys.executable, "-m", "experiments.run", "--list"], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGINT, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], SWEEP], ids=["run", "sweep"])
def test_ten_kills_at_random_points(more: list[str], tmp_path: Path) -> None:
    """Signals at any time from the start of the process on, not of the training; twenty over both rows."""
    path, draw = tmp_path / "parts", random.Random(len(more))
    more = [*more, "train.steps=400"]  # more than ten processes come to before they are killed
    ended = []
    while len(ended) < 10:
        process = Process(path, *more)
        number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        # A Ctrl-C while Python itself starts is Python's to answer.
        process.wait_for(lines=draw.randrange(number == signal.SIGINT, 6))
        time.sleep(draw.random() * 0.2)
        ended.append(process.end(number))
        assert ended[-1] in (-number, 128 + number), process.log.read_text()
    assert {-signal.SIGKILL, 128 + signal.SIGTERM} <= set(ended)
    check_ends_like_a_run_left_alone(path, *more)
