"""Configs: files, `extends`, overrides, and one line for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
from small_run import ADDING, begins, errors, load

import jlstm
from experiments import config, schema, task_schema
from experiments.run import CONFIGS, main

CHAR_LM = str(CONFIGS / "char_lm.toml")
ANY_TASK = " or ".join(f'"{name}"' for name in task_schema.TASKS)

pytestmark = pytest.mark.usefixtures("elsewhere")


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_all_errors_of_a_file_at_once_each_on_a_line_that_says_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "bad.toml",
        'stesp = 1\n[task]\nname = "adding"\nlenght = 5\nlength = 1\n'
        '[model]\nhidden_size = "64"\nforget_bias = "crono"\nseed = 1\n[train]\nsteps = 1.5\nlearning_rate = nan\n',
    )
    assert errors(capsys, path, "train.clipp=1") == [
        f"{path}: task.length: expected >= 2, got 1. Type for example task.length=200.",
        f"{path}: task.lenght: unknown key. Did you mean task.length?",
        f'{path}: model.hidden_size: expected an integer, got "64". Type for example model.hidden_size=64.',
        f'{path}: model.forget_bias: expected a number or "chrono", got "crono". '
        "Type for example model.forget_bias=1.0.",
        f"{path}: model.seed: unknown key. Did you mean train.seed?",
        f"{path}: train.steps: expected an integer, got 1.5. Type for example train.steps=3000.",
        f"{path}: train.learning_rate: expected a finite number, got NaN. Type for example train.learning_rate=0.003.",
        "command line: train.clipp: unknown key. Did you mean train.clip?",
        f"{path}: stesp: unknown table. Did you mean steps under [train]?",
    ]


# what is typed; how the one line begins
WRONG = [
    ([], "command line: expected a config. Type python -m experiments.run configs/adding.toml."),
    (["none.toml"], "none.toml: expected a config file: No such file or directory. Type ...--list"),
    ([ADDING, "steps=3"], "command line: expected table.key=value, got 'steps=3'. Did you mean train.steps=3?"),
    ([ADDING, "train.steps"], "command line: expected table.key=value, got 'train.steps'. Type ...=3000."),
    ([ADDING, "train.a.b=2"], "command line: expected table.key=value, got 'train.a.b=2'. Type for example "),
    ([ADDING, "trian.steps=3"], "command line: trian: unknown table. Did you mean [train]?"),
    ([ADDING, "x.y=3"], "command line: x: unknown table. The tables are task, model, train, sweep, "),
    ([ADDING, "task.name=addin"], f'command line: task.name: expected {ANY_TASK}, got "addin". Type ...=adding.'),
    ([ADDING, "train.seed=true"], "command line: train.seed: expected an integer, got true. Type ...=0."),
    ([ADDING, "data.path=/x"], f'{ADDING}: data.path: expected nothing for adding, ..., got "/x". Leave it out.'),
    (
        [ADDING, "model.cell=ProjectedLSTM"],
        f"{ADDING}: model.projected_size: expected > 0 ..., got 0. Type ...=32.",
    ),
    ([ADDING, "model.cell=GRU"], f'{ADDING}: model.forget_bias: expected nothing for GRU, ..., got "chrono". Type '),
    ([ADDING, "sweep.train.seed=[1]"], f"{ADDING}: sweep.train.seed: unknown key. Type sweep.seeds=16, ...=0 for "),
    ([ADDING, "sweep.train.clip=3"], "command line: sweep.train.clip: expected a list, got 3. Type ...=[3]."),
    ([ADDING, "sweep.train.clip=[1.0, 1.0]"], f"{ADDING}: sweep.train.clip: expected different ..., got [1.0, 1.0]."),
    ([ADDING, "sweep.train.clip=[-1, 1]"], f"{ADDING}: [sweep]: train.clip: expected > 0, got -1. Type for "),
    ([ADDING, "sweep.train.clipp=[1]"], f"{ADDING}: [sweep]: train.clipp: unknown key. Did you mean train.clip?"),
    ([ADDING, "sweep.run.dir=[1]"], "command line: sweep.run: unknown key. [sweep] has seeds, parallel, task, "),
    ([ADDING, "sweep.train=3"], "command line: sweep.train: expected a table, got 3. Type for example "),
    ([ADDING, "--over"], "command line: unrecognized arguments: --over. Type python -m experiments.run --help."),
    ([ADDING, "--resume", "--overwrite"], "command line: argument --overwrite: not allowed with ...--resume. Type "),
    ([CHAR_LM, "model.bidirectional=true"], f"{CHAR_LM}: model.bidirectional: expected false for char_lm, got true"),
    ([CHAR_LM, "data.path=/no/text"], "corpus: data.path: expected a text file or a directory, got '/no/text'"),
]
# the text of x.toml; how the one line begins, behind the file's name
WRONG_FILES = [
    ("steps = [", "not TOML: "),
    ("train = 3\n[task]\nname = 'adding'\n", "train: expected a table [train], got 3. Write [train] on a line of"),
    ("task = 3\n", "task: expected a table [task], got 3. Write [task] on a line of its own."),
    ("[train]\nsteps = 3\n", f"task.name: expected {ANY_TASK}, got nothing. Type task.name=adding."),
    ("extends = 3\n", 'extends: expected the name of a file, got 3. Write extends = "x.toml".'),
    ("extends = 'x.toml'\n", "`extends` goes in a circle, x.toml -> x.toml. Remove one of these `extends` lines."),
]


@pytest.mark.parametrize(("argv", "words"), WRONG)
def test_one_wrong_thing_is_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, *argv)
    assert begins(line, words), line


@pytest.mark.parametrize(("text", "words"), WRONG_FILES)
def test_one_wrong_file_is_one_line(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, write(Path("x.toml"), text))
    assert begins(line, f"x.toml: {words}"), line


def test_extends_lays_a_file_over_another_and_overrides_over_both(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "base.toml", "[task]\nname = 'adding'\nlength = 50\n[train]\nsteps = 10\nseed = 3\n")
    path = write(tmp_path / "sub" / "variant.toml", "extends = '../base.toml'\n[train]\nsteps = 20\n")
    request = config.load(path, ["train.learning_rate=1e-1", "model.forget_bias=chrono", "run.dir=/a b"])
    got = request.config
    assert isinstance(got.task, task_schema.Adding)
    assert (got.task.length, got.train.steps, got.train.seed, got.train.learning_rate) == (50, 20, 3, 0.1)
    assert (got.model.forget_bias, got.run.dir, request.name) == ("chrono", "/a b", "variant")
    assert schema.Config.model_validate(tomllib.loads(got.toml())) == got


def test_an_error_names_the_extended_file_it_is_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "base.toml", "[task]\nname = 'adding'\n[train]\nsteps = 0\n")
    path = write(tmp_path / "variant.toml", "extends = 'base.toml'\n[train]\nsede = 3\n")
    assert errors(capsys, path) == [
        f"{base}: train.steps: expected > 0, got 0. Type for example train.steps=3000.",
        f"{path}: train.sede: unknown key. Did you mean train.seed?",
    ]
    write(tmp_path / "gone.toml", "extends = 'nobody.toml'\n")
    (line,) = errors(capsys, str(tmp_path / "gone.toml"))
    assert "nobody.toml: expected a config file, which " in line and "gone.toml extends" in line


def test_print_config_is_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([ADDING, "train.seed=5", "--print-config"]) == 0
    printed = write(tmp_path / "printed.toml", capsys.readouterr().out)
    assert config.load(printed).config == load("train.seed=5")


def test_list_shows_every_config_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = [line.partition(":") for line in capsys.readouterr().out.splitlines()]
    files = sorted(CONFIGS.rglob("*.toml"))
    assert [name for name, *_ in listed] == [f"configs/{file.relative_to(CONFIGS).as_posix()}" for file in files]
    assert all(len(said) > 10 for *_, said in listed)


def test_dry_run_counts_parameters_and_makes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([ADDING, "model.hidden_size=4", "task.length=8", "train.batch_size=3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "(3, 8, 2)" in shown and "(3, 1)" in shown
    assert f"parameters: {2 * 4 * 4 + 4 * 4 * 4 + 4 * 4 + 4 + 1}" in shown
    assert not list(tmp_path.iterdir())


def test_help_and_exit_code_from_a_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CONFIGS.parent)}
    command = [sys.executable, "-m", "experiments.run", ADDING, "train.stpes=3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "command line: train.stpes: unknown key. Did you mean train.steps?\n"


def test_every_cell_can_be_named_in_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {name for name, it in vars(jlstm).items() if jlstm.Cell in getattr(it, "__mro__", ())}
    named = typing.get_args(schema.Model.model_fields["cell"].annotation)
    assert set(named) == cells - set(schema.WRAPPERS) - {"Cell"}
    for name in named:
        size = ["model.projected_size=2"] if name == "ProjectedLSTM" else []
        bias = [] if name in schema.WITHOUT_FORGET_GATE else ["model.forget_bias=chrono"]
        assert main([ADDING, f"model.cell={name}", "model.forget_bias=1.0", *size, *bias, "--dry-run"]) == 0
        assert "parameters: " in capsys.readouterr().out
