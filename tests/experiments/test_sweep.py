"""Sweeps: what runs in one program, members equal their single runs, a member that diverges, the table."""

from __future__ import annotations

import csv
import itertools
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import bitwise
from small_run import ADDING, TINY, lines, load, record

import jlstm
from experiments import loop, sweep, table, tasks
from experiments.run import main
from experiments.spread import spread
from experiments.tasks.adding import AddingTask
from experiments.train import NEVER, make_train, members

pytestmark = pytest.mark.usefixtures("elsewhere", "no_pictures")


def test_what_is_a_number_is_a_member_and_what_is_a_shape_is_a_program() -> None:
    swept = ["sweep.train.learning_rate=[1e-3, 1e-2]", "sweep.model.hidden_size=[4, 8]"]
    got = load("sweep.seeds=2", "train.seed=5", *swept)
    one, other = sweep.settings(got)
    assert (one.static, other.static) == ({"model.hidden_size": 4}, {"model.hidden_size": 8})
    assert one.members == other.members
    assert [tuple(member.values()) for member in one.members] == [(1e-3, 5), (1e-3, 6), (1e-2, 5), (1e-2, 6)]
    assert other.config.model.hidden_size == 8
    assert sweep.settings(other.config) == [other._replace(static={})]  # its config.toml is that program alone
    assert sweep.is_single(load()) and not sweep.is_single(got)


# 4 of 6: a part that is full, and one that is not.
@pytest.mark.parametrize("parallel", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 6))])
def test_members_equal_their_single_runs(parallel: int) -> None:
    swept = ["sweep.seeds=3", "sweep.train.learning_rate=[1e-3, 1e-2]", "sweep.train.weight_decay=[0.0, 0.1]"]
    (setting,) = sweep.settings(load(*TINY, "train.steps_per_call=20", f"sweep.parallel={parallel}", *swept))
    assert len(setting.members) == 12
    rows = setting.members[:6]
    task = tasks.make(setting.config)
    together = loop.compile_programs(setting.config, task, rows)
    state, losses = together.advance(together.start(), None, 0, 20)
    train = make_train(setting.config, task)
    alone = jax.jit(lambda member: train.advance(member, train.start(member), None, 0, 20))
    for i, row in enumerate(rows):
        its_state, its_losses = alone(jax.tree.map(lambda leaf: leaf[0], members(setting.config, [row])))
        np.testing.assert_allclose(losses[i], its_losses, rtol=1e-5)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), state.params, its_state.params)
    assert len({float(loss) for loss in losses[:, -1]}) == 6  # no two members are the same run


@pytest.mark.parametrize(
    ("n", "threads", "sizes"), [(6, 2, [3, 3]), (5, 2, [3, 3]), (5, 4, [2, 2, 2]), (3, 3, [1, 1, 1])]
)
def test_members_are_spread_over_threads(n: int, threads: int, sizes: list[int]) -> None:
    """Each share by one call of one program, in whatever thread; all at one time, in the order of the members."""
    calls, traces, meeting = [], [], threading.Barrier(len(sizes))

    @jax.jit
    def program(x: Any, y: Any, shared: Any) -> Any:
        traces.append(len(x))
        return {"sum": x + y["y"] + shared}

    def f(x: Any, *rest: Any) -> Any:
        calls.append(len(x))
        if len(calls) > len(sizes):  # behind the first round, whose first call compiles
            meeting.wait(timeout=60)
        return program(x, *rest)

    call = spread(f, n, threads, over=2)
    x = np.arange(n, dtype=np.float32)
    for shared in (np.float32(100), np.float32(200)):
        got = call(x, {"y": 10 * x}, shared)
        np.testing.assert_array_equal(got["sum"], 11 * x + shared)
    assert calls == 2 * sizes and traces == sizes[:1]


def test_a_sweep_is_traced_once_however_many_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[int] = []
    loss = AddingTask.loss
    monkeypatch.setattr(AddingTask, "loss", lambda *args: traces.append(1) or loss(*args))

    def count(*overrides: str) -> int:
        traces.clear()
        assert main([ADDING, *TINY, *overrides]) == 0
        return len(traces)

    single = count()
    assert single > 0 and count("sweep.seeds=16", "sweep.parallel=1") == single
    (run,) = Path("runs/adding").glob("*-s0-15")
    assert len(lines(run / "table.jsonl")) == 16


def test_a_member_that_diverges_is_frozen_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([ADDING, *TINY, "sweep.train.learning_rate=[1e-2, 1e38]", "run.dir=r"]) == 0
    shown = capsys.readouterr().out
    sound, bad = record()["result"]["members"]
    assert bad["diverged_at"] in (2, 3) and bad["value"] is None
    assert sound["diverged_at"] is None and np.isfinite(sound["value"])
    assert f"diverged at step {bad['diverged_at']}" in next(line for line in shown.splitlines() if "1e+38" in line)
    assert main([ADDING, *TINY, "run.dir=alone"]) == 0
    (alone,) = record("alone")["result"]["members"]
    assert alone["value"] == pytest.approx(sound["value"], rel=1e-5)
    _, params = jlstm.load("r/model-1.safetensors")
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), params))
    steps = [line["step"] for line in lines("r/metrics.jsonl") if line["member"] == 1]
    assert all(step < bad["diverged_at"] for step in steps)
    written = list(csv.DictReader(Path("r/table.csv").read_text().splitlines()))
    assert [row["status"] for row in written] == ["finished", "diverged"]
    assert [row["diverged_at"] for row in written] == ["", str(bad["diverged_at"])]


def test_a_sweep_stops_when_no_member_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([ADDING, *TINY, "sweep.seeds=2", "train.learning_rate=1e38", "run.dir=r"]) == 3
    assert "r: stopped: all 2 members have diverged, the first at step " in capsys.readouterr().out


def test_state_is_frozen_before_the_bad_step() -> None:
    got = load(*TINY)
    programs = loop.compile_programs(got, tasks.make(got), [{}])
    start = programs.start()
    state = start._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, start.params))
    after, _ = programs.advance(jax.tree.map(jnp.array, state), None, 4, 2)
    assert int(after.diverged_at[0]) == 5 and int(start.diverged_at[0]) == NEVER
    bitwise(after.opt_state, start.opt_state)


@pytest.mark.slow
def test_single_runs_end_in_the_table_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY]
    assert main([*argv, "sweep.train.learning_rate=[1e-2, 1e-3]", "sweep.seeds=2", "run.dir=sweep"]) == 0
    for rate, seed in itertools.product(("1e-2", "1e-3"), (0, 1)):
        single = [f"train.learning_rate={rate}", f"train.seed={seed}", f"run.dir=single/{rate}-{seed}"]
        assert main([*argv, *single]) == 0
    capsys.readouterr()
    assert table.main(["single"]) == 0
    shown = capsys.readouterr().out
    one, other = (table.groups(table.rows([Path(name)])) for name in ("sweep", "single"))
    assert [(g["train.learning_rate"], g["runs"]) for g in one] == [(1e-3, 2), (1e-2, 2)]
    for a, b in zip(one, other, strict=True):
        assert a == {**b, **{k: pytest.approx(b[k], rel=1e-5) for k in ("mean", "std", "min", "max")}}
    assert f"{one[0]['mean']:.5g}" in shown and "learning_rate" in shown
    values = [line["value"] for line in lines("single/table.jsonl")]
    assert one[0]["mean"] == pytest.approx(np.mean(values[2:]), rel=1e-5)  # "1e-2-0" < "1e-3-0"
    assert one[0]["std"] == pytest.approx(np.std(values[2:], ddof=1), rel=1e-3)
    assert table.main(["nothing"]) == 2
    assert capsys.readouterr().err == "nothing: expected run directories, found no run.json there.\n"
