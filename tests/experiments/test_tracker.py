"""A tracker is told what metrics.jsonl holds, and cannot hurt the run."""

from __future__ import annotations

import contextlib
import signal
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from small_run import ADDING, TINY, errors, lines, load, record, stopped

from experiments import directory, loop, tracker
from experiments.run import main

PLAIN = [ADDING, *TINY, "run.dir=r"]
ARGV = [*PLAIN, "log.tracker=mine:Mine"]
METRICS = "r/metrics.jsonl"
RESULT = {"measure": "error", "members": [{"train.seed": 0, "value": 0.5}]}


class Mine:
    """A user's tracker. `fails`: the methods that raise."""

    told: list[tuple[Any, ...]]
    fails: set[str]

    def __init__(self, directory: Path) -> None:
        self._hear("made", directory)

    def begin(self, name: str, run_id: str, config: dict[str, Any]) -> None:
        self._hear("begin", name, run_id, config)

    def log(self, line: dict[str, Any]) -> None:
        self._hear("log", line)

    def finish(self, result: dict[str, Any]) -> None:
        self._hear("finish", dict(result))
        result.clear()  # its own copy

    def close(self, exit_code: int) -> None:
        self._hear("close", exit_code)

    def _hear(self, *what: Any) -> None:
        if what[0] in self.fails:
            raise ConnectionError(f"no\nserver for {what[0]}.")
        self.told.append(what)


@pytest.fixture(autouse=True)
def mine(elsewhere: None, no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module `mine`, with a tracker and half a one."""
    module: Any = types.ModuleType("mine")
    module.Mine, module.Half = Mine, type("Half", (), {"begin": Mine.begin, "log": Mine.log})
    Mine.told, Mine.fails = [], set()
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def names() -> list[str]:
    """The methods of the tracker that were called."""
    return [name for name, *_ in Mine.told]


def test_a_run_tells_its_tracker_what_it_writes_down() -> None:
    assert main(ARGV) == 0
    run, logs = record(), [("log", line) for line in lines(METRICS)]
    begin = ("begin", "adding/r", run["id"], run["config"])
    assert Mine.told == [("made", Path("r")), begin, *logs, ("finish", run["result"]), ("close", 0)]
    assert [line["step"] for line in lines(METRICS)] == [2, 3, 3, 5, 6, 6]


def test_a_run_that_is_interrupted_and_resumed_is_one_run() -> None:
    with stopped(signal.SIGTERM):
        assert main(ARGV) == 143
    _, begin, *logs, close = Mine.told
    assert close == ("close", 143) and [what for what, _ in logs] == ["log"] * 4
    Mine.told.clear()
    assert main([*ARGV, "--resume"]) == 0
    assert Mine.told[1] == begin and Mine.told[-1] == ("close", 0)
    logs += [told for told in Mine.told if told[0] == "log"]
    assert logs == [("log", line) for line in lines(METRICS)]


def test_a_run_has_one_id_until_it_is_started_again() -> None:
    """A run may also get its tracker when it is resumed."""
    ids = []
    for argv in (PLAIN, [*ARGV, "--resume"], [*ARGV, "--overwrite"]):
        with mock.patch.object(loop, "train", side_effect=KeyboardInterrupt):
            assert main(argv) == 130
        ids.append(record()["id"])
    assert ids[0] == ids[1] != ids[2]
    assert [told[2] for told in Mine.told if told[0] == "begin"] == ids[1:]


def test_a_tracker_that_raises_is_one_warning_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    Mine.fails = {"log"}
    assert main(ARGV) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "tracker" in line]
    assert warning.startswith("warning: log.tracker: mine:Mine failed: ConnectionError: no server for log. ")
    assert len(lines(METRICS)) == 6 and names() == ["made", "begin", "close"]


@pytest.mark.parametrize("when", ["made", "begin", "log", "finish", "close"])
def test_wherever_a_tracker_raises(when: str, tmp_path: Path) -> None:
    Mine.fails, heard = {when, "close"}, []  # that closing fails, too, is no news
    run = tracker.make("mine:Mine", tmp_path, heard.append)
    run.begin("adding/s0", "ab12", {}, [])
    for step in (1, 2):
        run.log({"step": step})
    run.finish(RESULT)
    run.close(0)
    assert len(heard) == 1 and f"no server for {when}. It is left out" in heard[0]
    order = ["made", "begin", "log", "log", "finish"]
    assert names() == order[: order.index(when) if when in order else None]


@pytest.mark.parametrize(
    ("error", "code"),
    [(loop.DivergedError("nan"), 3), (KeyboardInterrupt(), 130), (OSError(28, "full"), 1), (ValueError("a bug"), 1)],
    ids=lambda value: type(value).__name__,
)
def test_a_tracker_hears_how_the_process_ends(error: BaseException, code: int) -> None:
    raised = pytest.raises(ValueError, match="a bug") if isinstance(error, ValueError) else contextlib.nullcontext()
    with mock.patch.object(loop, "train", side_effect=error), raised:
        assert main(ARGV) == code
    assert names() == ["made", "begin", "close"] and Mine.told[-1] == ("close", code)


def test_ctrl_c_inside_a_tracker_is_ctrl_c(tmp_path: Path) -> None:
    with mock.patch.object(Mine, "log", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        tracker.make("mine:Mine", tmp_path, print).log({"step": 1})


NONE = {
    "tensorboard": 'expected "", "wandb" or "package.module:Class", got "tensorboard".',
    "no.such:Class": '"no.such:Class": cannot import no.such: ModuleNotFoundError: ',
    "mine:Other": '"mine:Other": expected a class with begin, log, finish, close, got no Other.',
    "mine:Half": '"mine:Half": expected a class with begin, log, finish, close, got Half without finish, close.',
    "wandb": "cannot import wandb: ",
}


@pytest.mark.parametrize(("name", "message"), NONE.items())
def test_a_tracker_that_is_none(name: str, message: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for absent in (None, types.ModuleType("wandb")):  # not there, or only a folder of that name
        monkeypatch.setitem(sys.modules, "wandb", absent)  # type: ignore[arg-type]
        (line,) = errors(capsys, *PLAIN, f"log.tracker={name}")
        assert line.startswith(f"log.tracker: {message}")
        assert (name == "wandb") == line.endswith('. Type pip install wandb, or log.tracker="".')
    assert not list(Path().iterdir())


def test_a_number_that_is_none_is_null(tmp_path: Path) -> None:
    run, heard = directory.RunDirectory(tmp_path, load()), []
    run.listener = heard.append
    for step in (5, 10):
        run.log_members(step, np.array([True, False, True]), loss=np.array([0.5, 1, np.nan]), held_out=np.inf)
    want = [{"step": 5, "member": member, "loss": loss, "held_out": None} for member, loss in ((0, 0.5), (2, None))]
    assert heard[:2] == want and lines(tmp_path / "metrics.jsonl") == run.metrics() == heard
    run.rewind(5, 1.0)
    assert lines(tmp_path / "metrics.jsonl") == want


def calls(monkeypatch: pytest.MonkeyPatch, path: Path, result: dict[str, Any], resumed: bool = False) -> list[Any]:
    """The calls of wandb, by name and arguments, in a run that was at step 5 before."""
    wandb = mock.Mock(spec=["init"])
    wandb.init.return_value = mock.Mock(spec=["summary", "define_metric", "log", "finish"], resumed=resumed)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run = tracker.make("wandb", path, pytest.fail)
    run.begin("adding/s0", "ab12", {"train": {"seed": 0}}, [{"step": 5, "loss": 0.7}])
    run.log({"step": 10, "member": 3, "loss": 0.5, "held_out": None})
    run.finish(result)
    run.close(0)
    return wandb.mock_calls


@pytest.mark.parametrize("resumed", [False, True])
def test_wandb_gets_config_metrics_result_and_all_again_where_it_kept_none(
    resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    start = dict(project="jlstm", name="adding/s0", id="ab12", resume="allow", config={"train": {"seed": 0}})
    run = mock.call.init()
    assert calls(monkeypatch, tmp_path, RESULT, resumed) == [
        mock.call.init(**start, dir=str(tmp_path)),
        run.define_metric("*", step_metric="step"),
        *([] if resumed else [run.log({"step": 5, "loss": 0.7})]),
        run.log({"step": 10, "loss/3": 0.5, "held_out/3": None}),
        run.summary.update({"measure": "error", "train.seed": 0, "value": 0.5}),
        run.finish(exit_code=0),
    ]


def test_wandb_gets_the_result_of_a_sweep_by_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    told = calls(monkeypatch, tmp_path, {"members": [{"value": 1}, {"value": 2}]})
    assert told[0].kwargs["project"] == "mine"
    assert mock.call.init().summary.update({"value/0": 1, "value/1": 2}) in told
