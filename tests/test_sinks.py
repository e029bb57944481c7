"""JSON lines hold every number; a tracker is told each once, and cannot hurt the run."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import sinks
from experiments.config import UsageError

CONFIG = {"train": {"seed": 0}}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


class Wandb:
    """What `WandB` uses of the module, and a server that remembers. offline: it cannot resume."""

    def __init__(self, offline: bool = False) -> None:
        self.offline = offline
        self.calls: list[tuple[Any, ...]] = []
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.fails: set[str] = set()

    def init(self, **given: Any) -> Any:
        self._call("init", given)
        assert given["resume"] == "allow"
        resumed = given["id"] in self.rows and not self.offline
        rows = self.rows.setdefault(given["id"], [])
        if not resumed:
            rows.clear()
        summary = types.SimpleNamespace(update=lambda values: self._call("summary", values))
        return types.SimpleNamespace(
            resumed=resumed,
            summary=summary,
            define_metric=lambda name, step_metric: self._call("define_metric", name, step_metric),
            log=lambda row: (self._call("log", row), rows.append(row)),
            finish=lambda exit_code: self._call("finish", exit_code),
        )

    def _call(self, name: str, *given: Any) -> None:
        if name in self.fails:
            raise ConnectionError(f"{name}:\nno  server.")
        self.calls.append((name, *given))

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)  # type: ignore[arg-type]
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return stub


def test_json_lines_hold_what_was_logged(tmp_path: Path) -> None:
    sink = sinks.make("", tmp_path)
    sink.begin(CONFIG, "r")
    sink.log(5, {"loss": np.float32(0.5), "member": 3})
    sink.log(np.int64(10), {"loss": float("nan"), "held_out": float("-inf")})  # type: ignore[arg-type]
    sink.finish({"held_out": 1.0})
    sink.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 5, "loss": 0.5, "member": 3}\n{"step": 10, "loss": null, "held_out": null}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_wandb_gets_a_run_with_config_rows_by_member_summary_and_end(wandb: Wandb, tmp_path: Path) -> None:
    sink = sinks.make("wandb", tmp_path)
    sink.begin(CONFIG, "adding-s0")
    sink.log(5, {"loss": 0.5, "member": 3})
    sink.log(5, {"held_out": 0.25})
    sink.finish({"held_out": 0.25})
    sink.close()
    (_, given), *rest = wandb.calls
    (identity,) = wandb.rows
    assert given == {
        "project": "jlstm", "name": "adding-s0", "config": CONFIG, "dir": str(tmp_path),
        "id": identity, "resume": "allow",
    }  # fmt: skip
    assert rest == [
        ("define_metric", "*", "step"), ("log", {"step": 5, "loss/3": 0.5}), ("log", {"step": 5, "held_out": 0.25}),
        ("summary", {"held_out": 0.25}), ("finish", 0),
    ]  # fmt: skip
    assert lines(tmp_path) == [{"step": 5, "loss": 0.5, "member": 3}, {"step": 5, "held_out": 0.25}]


def test_a_run_that_is_not_finished_is_closed_as_failed(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    sink = sinks.make("wandb", tmp_path)
    sink.begin(CONFIG, "r")
    sink.close()
    assert wandb.calls[-1] == ("finish", 1) and wandb.calls[0][1]["project"] == "mine"


def train(path: Path, first: int, last: int, warn: Any = print) -> None:
    """Steps first .. last of a run whose metrics.jsonl was cut back to the steps before them; then it is killed."""
    if (path / "metrics.jsonl").exists():
        kept = [json.dumps(line) + "\n" for line in lines(path) if line["step"] < first]
        (path / "metrics.jsonl").write_text("".join(kept))
    sink = sinks.make("wandb", path, warn)
    sink.begin(CONFIG, "r")
    for step in range(first, last + 1):
        sink.log(step, {"loss": 1 / step, "member": 0})
        sink.log(step, {"loss": 2 / step, "member": 1})
        sink.log(step, {"held_out": step})


WHOLE = [
    {"step": step, **row}
    for step in range(1, 8)
    for row in ({"loss/0": 1 / step}, {"loss/1": 2 / step}, {"held_out": step})
]


@pytest.mark.parametrize("offline", [False, True])
def test_a_resumed_run_has_every_row_once(wandb: Wandb, tmp_path: Path, offline: bool) -> None:
    wandb.offline = offline  # of two offline parts the later one counts: it has to hold all
    train(tmp_path, 1, 5)
    with open(tmp_path / "tracker.jsonl", "a") as torn:
        torn.write('{"step": 6, "ke')
    train(tmp_path, 3, 6)  # from the checkpoint at 2
    train(tmp_path, 7, 7)
    (rows,) = wandb.rows.values()
    assert rows == WHOLE
    assert len({line["step"] for line in lines(tmp_path)}) == 7 and len(lines(tmp_path)) == len(WHOLE)


def test_what_a_failed_tracker_missed_is_told_when_the_run_goes_on(wandb: Wandb, tmp_path: Path) -> None:
    heard: list[str] = []
    train(tmp_path, 1, 2)
    wandb.fails = {"log"}
    train(tmp_path, 3, 4, heard.append)
    wandb.fails = {"init"}
    train(tmp_path, 5, 6, heard.append)
    wandb.fails = set()
    train(tmp_path, 7, 7, heard.append)
    kept = tmp_path / "metrics.jsonl"
    assert heard == [
        "log.tracker: wandb failed at step 3, and is left out from here on: ConnectionError: log: no server. "
        f"{kept} has it all.",
        "log.tracker: wandb could not start, and is left out from here on: ConnectionError: init: no server. "
        f"{kept} has it all.",
    ]
    (rows,) = wandb.rows.values()
    assert rows == WHOLE and len(lines(tmp_path)) == len(WHOLE)


@pytest.mark.parametrize("when", ["log", "summary", "finish"])
def test_a_tracker_that_raises_warns_once_and_the_run_goes_on(wandb: Wandb, tmp_path: Path, when: str) -> None:
    heard: list[str] = []
    sink = sinks.make("wandb", tmp_path, heard.append)
    sink.begin(CONFIG, "r")
    wandb.fails = {when}
    for step in (1, 2, 3):
        sink.log(step, {"loss": 0.5})
    sink.finish({"held_out": 1.0})
    sink.close()
    assert len(heard) == 1 and "\n" not in heard[0] and heard[0].endswith("metrics.jsonl has it all.")
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert wandb.names().count("log") == (0 if when == "log" else 3)


def test_ctrl_c_inside_a_tracker_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mine, "log", lambda self, step, values: (_ for _ in ()).throw(KeyboardInterrupt))
    sink = own(monkeypatch, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sink.log(1, {"loss": 0.5})
    assert lines(tmp_path) == [{"step": 1, "loss": 0.5}]


class Mine:
    """A user's tracker."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "mine.txt"

    def begin(self, config: dict[str, Any], name: str) -> None:
        self._write("begin", config, name)

    def log(self, step: int, values: dict[str, Any]) -> None:
        self._write("log", step, values)

    def finish(self, summary: dict[str, Any]) -> None:
        self._write("finish", summary)

    def close(self) -> None:
        self._write("close")

    def _write(self, *what: Any) -> None:
        with open(self.file, "a") as out:
            out.write(f"{what}\n")


def own(monkeypatch: pytest.MonkeyPatch, path: Path) -> sinks.Both:
    module = types.ModuleType("mine")
    module.Mine, module.Half = Mine, type("Half", (), {"begin": Mine.begin, "log": Mine.log})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    sink = sinks.make("mine:Mine", path)
    sink.begin(CONFIG, "r")
    return sink


def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in ((1, 2), (2, 3)):  # the second process repeats step 2
        sink = own(monkeypatch, tmp_path)
        for step in steps:
            sink.log(step, {"loss": 0.5, "member": 1})
    sink.finish({"best": 1})
    sink.close()
    begin, *logs = [f"{('begin', CONFIG, 'r')}"] + [f"{('log', n, {'loss': 0.5, 'member': 1})}" for n in (1, 2, 3)]
    told = [begin, *logs[:2], begin, logs[2], "('finish', {'best': 1})", "('close',)"]
    assert (tmp_path / "mine.txt").read_text().splitlines() == told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorboard", 'expected "", "wandb" or "package.module:Class", got "tensorboard".'),
        ("no.such:Class", "\"no.such:Class\": cannot import no.such: ModuleNotFoundError: No module named 'no'."),
        ("mine:Other", '"mine:Other": expected a class with begin, log, finish, close, got no Other.'),
        ("mine:Half", '"mine:Half": expected a class with begin, log, finish, close, got Half without finish, close.'),
        ("pathlib:Path", '"pathlib:Path": expected a class with begin, log, finish, close, got Path without begin, '
         "log, finish, close."),
        ("wandb", 'wandb is not installed. Type pip install wandb, or log.tracker="".'),
    ],
)  # fmt: skip
def test_a_tracker_that_is_none(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, tmp_path)
    for absent in (None, types.ModuleType("wandb")):  # not there, or only the directory that it leaves behind
        monkeypatch.setitem(sys.modules, "wandb", absent)  # type: ignore[arg-type]
        with pytest.raises(UsageError) as error:
            sinks.make(name, tmp_path)
        assert error.value.args == (f"log.tracker: {message}",)


def test_a_tracker_that_cannot_start_stops_a_run_that_has_not_begun(wandb: Wandb, tmp_path: Path) -> None:
    wandb.fails = {"init"}
    with pytest.raises(UsageError) as error:
        sinks.make("wandb", tmp_path).begin(CONFIG, "r")
    assert error.value.args == (
        'log.tracker: wandb could not start: ConnectionError: init: no server. Mend it, or type log.tracker="".',
    )
