"""The life of a run: its directory, resuming, failing, its report; and every file in configs/."""

from __future__ import annotations

import signal
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import bitwise
from small_run import ADDING, TINY, errors, lines, load, record, stopped

import jlstm
from experiments import config, device, directory, loop, tasks
from experiments.checkpoints import Checkpoints
from experiments.run import CONFIGS, main
from experiments.tasks import adding

pytestmark = pytest.mark.usefixtures("elsewhere")


def metrics(path: str) -> list[tuple[str, float, float]]:
    """The numbers of metrics.jsonl that do not depend on the clock."""
    found = lines(f"{path}/metrics.jsonl")
    return [(key, line["step"], line[key]) for line in found for key in ("loss", "held_out") if key in line]


def steps(key: str) -> list[float]:
    """The steps of the run `r` at which metrics.jsonl has this number."""
    return [step for name, step, _ in metrics("r") if name == key]


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ([], "runs/adding/s0"),
        (["train.seed=3"], "runs/adding/s3"),
        (["train.steps=10", "model.hidden_size=4"], "runs/adding/model.hidden_size=4,train.steps=10-s0"),
        (["train.learning_rate=1e-3"], "runs/adding/train.learning_rate=0.001-s0"),
        (["run.dir=here", "train.steps=10"], "here"),
    ],
)
def test_where_a_run_is_kept(overrides: list[str], place: str) -> None:
    assert directory.place(config.load(ADDING, overrides)) == Path(place)


def test_names_of_run_directories_are_bounded_and_unique() -> None:
    def name(path: str) -> str:
        return directory.place(config.load(str(CONFIGS / "char_lm.toml"), [f"data.path={path}"])).name

    assert name("/a/b") != name("/a_b") and "/" not in name("/a/b")
    assert len(name("x" * 500)) < 130 and name("x" * 500) != name("x" * 501)


def test_a_run_its_files_and_what_happens_when_it_is_typed_again(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY, "run.dir=r"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert all(words in first for words in ("device: ", "step 3/6", "step 6/6", "this run"))
    pictures, run = {"learning_curve.png", "gates.png"}, Path("r")
    others = {"config.toml", "metrics.jsonl", "model.safetensors", "run.json", "checkpoints", "lock"}
    assert {file.name for file in run.iterdir()} == pictures | others
    got = config.load("r/config.toml").config
    assert got == load(*argv[1:])
    found = record()
    assert found["status"] == "finished" and found["seed"] == 0 and set(found["versions"]) >= {"jax", "python"}
    assert steps("held_out") == [3, 6] and steps("loss") == [2, 3, 5, 6]
    net, params = jlstm.load(run / "model.safetensors")
    assert net == tasks.make(got).net
    assert jlstm.unroll(net, params, jnp.ones((3, 8, 2)))[1].shape == (3, 1)
    before = metrics("r")
    for option in ([], ["--resume"]):
        assert main([*argv, *option]) == 0
        again = capsys.readouterr().out
        assert "finished before" in again and f"{found['result']['members'][0]['value']:.4f}" in again
    assert metrics("r") == before
    (line,) = errors(capsys, *argv, "train.eval_every=6")
    assert line.startswith("r holds a run of another config (train.eval_every: 3 there, 6 here). Type --overwrite")
    (run / "note.txt").write_text("mine")
    assert main([*argv, "train.eval_every=6", "--overwrite"]) == 0
    assert record()["status"] == "finished" and steps("held_out") == [6] and (run / "note.txt").exists()


def test_overwrite_leaves_a_directory_that_holds_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/learning_curve.png").write_text("mine")
    (line,) = errors(capsys, ADDING, "run.dir=mine", "--overwrite")
    assert line == "mine: expected a run or nothing, got other files. Type run.dir=runs/another."
    (line,) = errors(capsys, ADDING, "run.dir=mine/learning_curve.png")
    assert line == "mine/learning_curve.png: expected a directory, got a file. Type run.dir=runs/another."


@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_run_resumes_to_the_numbers_of_an_uninterrupted_one(capfd: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY]
    assert main([*argv, "run.dir=whole"]) == 0
    with stopped(signal.SIGINT):
        assert main([*argv, "run.dir=parts", "--resume"]) == 130
    shown = capfd.readouterr()
    assert "parts: SIGINT at step 5, saved. Type --resume to continue." in shown.out
    assert "SIGINT: saving after this call. Ctrl-C again stops at once." in shown.err
    assert record("parts")["status"] == "interrupted"
    (line,) = errors(capfd, *argv, "run.dir=parts")
    assert line.startswith("parts holds an unfinished run (interrupted). Type --resume ") and "--overwrite" in line
    assert main([*argv, "run.dir=parts", "--resume"]) == 0
    assert metrics("parts") == metrics("whole")
    bitwise(*(jlstm.load(f"{name}/model.safetensors")[1] for name in ("parts", "whole")))


# Errors of the standard library, and of orbax, which has the system's words in an error of its own.
@pytest.mark.parametrize(
    "refused", [OSError(28, "", "r/run.json"), ValueError("UNKNOWN: No space left on device")], ids=str
)
def test_a_full_disk_is_one_line(refused: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY, "checkpoint.every=2", "run.dir=r"]
    with mock.patch.object(Checkpoints, "save", side_effect=refused):
        assert main(argv) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("r: cannot be written to: No space left on device") and "--resume" in last
    assert main([*argv, "--resume"]) == 0


@pytest.mark.usefixtures("no_pictures")
def test_a_loss_that_is_no_number_stops_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    init = adding.AddingTask.init
    with mock.patch.object(adding.AddingTask, "init", lambda *args: jax.tree.map(lambda p: p * jnp.nan, init(*args))):
        assert main([ADDING, *TINY, "run.dir=r"]) == 3
    assert "r: stopped: the loss is nan at step 1." in capsys.readouterr().out
    assert record()["status"] == "failed" and "Type a lower train.learning_rate (now 0.01)" in record()["reason"]


def test_the_adding_problem_is_as_published() -> None:
    x, target = jax.jit(adding.batch, static_argnums=(1, 2))(jax.random.key(0), 2000, 200)
    numbers, mask = np.asarray(x[..., 0]), np.asarray(x[..., 1])
    assert x.shape == (2000, 200, 2) and target.shape == (2000,)
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.01
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert (mask[:, :100].sum(1) == 1).all() and (mask[:, 100:].sum(1) == 1).all()
    assert (mask.sum(0) > 0).all()  # every position is marked somewhere
    np.testing.assert_allclose((numbers * mask).sum(1), target, rtol=1e-6)


def test_its_baseline_is_one_sixth() -> None:
    task = tasks.make(load("task.held_out=20000", "task.length=10"))
    assert task.baselines()["always 1"] == pytest.approx(1 / 6, abs=0.005)


def test_evaluation_is_the_mean_over_the_whole_test_set() -> None:
    task = tasks.make(load(*TINY, "task.held_out=300"))
    params = task.init(jax.random.key(0))
    x, target = task.held_out
    error = jlstm.unroll(task.net, params, x)[1][:, 0] - target
    np.testing.assert_allclose(task.evaluate(params, task.held_out), jnp.mean(error**2), rtol=1e-5)


def test_a_short_call_takes_its_own_steps_and_no_more() -> None:
    got = load(*TINY)
    whole, parts = (loop.compile_programs(got, tasks.make(got), [{}]) for _ in range(2))
    two, losses = whole.advance(whole.start(), None, 0, 2)
    one, first = parts.advance(parts.start(), None, 0, 1)
    one, second = parts.advance(one, None, 1, 1)
    np.testing.assert_array_equal(losses, [[first[0, 0], second[0, 0]]])
    assert first[0, 1] == 0
    bitwise(one, two)


def test_an_idle_gpu_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "nvidia_visible", lambda: True)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert str(device.warning()).endswith('Type pip install -e ".[experiments,cuda13]"')
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert str(device.warning()).endswith("Type unset JAX_PLATFORMS")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert device.warning() is None


STEPS = ["model.hidden_size=4", "train.batch_size=4", "train.steps=6", "train.steps_per_call=2", "train.eval_every=6"]
FORMAL = ["task.length=3", "task.test_length=6", "task.test=4", "task.held_out=4", *STEPS]
SMALL = dict.fromkeys(("parity", "even_pairs", "cycle_navigation", "modular_arithmetic"), FORMAL) | {
    "adding": TINY,
    "char_lm": ["task.length=8", "task.sample_length=20", "task.embed_size=4", "data.path=text.txt", *STEPS],
    "copy_memory": ["task.length=4", "task.test=4", "task.held_out=4", *STEPS],
    "temporal_order": ["task.test=4", "task.held_out=4", *STEPS],
    "reber": ["task.longest=9", "task.training=4", "task.test=4", "task.held_out=4", *STEPS],
    "digits": ["sweep.task.fold=[3]", *STEPS],
    "sunspots": STEPS,
    "csv": [f"data.path={CONFIGS}/data/lorenz.csv", *STEPS],
}
SMOKE = [CONFIGS / "smoke" / name for name in ("adding.toml", "char_lm.toml")]
FILES = [
    pytest.param(file, id=str(file.relative_to(CONFIGS)), marks=() if file in SMOKE else pytest.mark.slow)
    for file in sorted(CONFIGS.rglob("*.toml"))
]


@pytest.mark.parametrize("file", FILES)
def test_every_config_runs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = config.load(str(file)).config.task.name
    Path("text.txt").write_text("".join(f"line {i}: the quick brown fox has {i * i} legs\n" for i in range(400)))
    assert main([str(file), *SMALL[task], "sweep.seeds=1"]) == 0
    assert "after 6 steps" in capsys.readouterr().out
    assert file.read_text().startswith("# "), "a config says on top what it is, its command, and what to expect"
