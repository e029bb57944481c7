"""model.wrappers: the config, its errors, what is built, and runs, sweeps and pictures of wrapped cells."""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tomli_w
from pydantic_core import PydanticUndefined
from small_run import ADDING, TINY, begins, errors, lines, load, record

import jlstm
from experiments import config, schema, tasks
from experiments.model import build_cell
from experiments.pictures import anatomy
from experiments.run import main

pytestmark = pytest.mark.usefixtures("elsewhere")

PLAIN = "model.forget_bias=1.0"
ANY = " or ".join(f'"{name}"' for name in schema.WRAPPERS)
ZONEOUT = '{name="Zoneout", h_rate=0.05, c_rate=0.2}'
CLIP = '{name="ClipGates", limit=0.01}'
ONE = f"model.wrappers=[{ZONEOUT}]"
NO_MEMORY = "model.wrappers: Zoneout: c_rate: expected 0"

# a value of model.wrappers; how the one line goes on behind this key
VALUES = [
    ("Zoneout", f': expected a list, got "Zoneout". Type for example model.wrappers=[{ZONEOUT}].'),
    ('["Zoneout"]', f'[0]: expected a table, got "Zoneout". Type for example {ZONEOUT}.'),
    ("[{h_rate=0.1}]", f"[0].name: expected {ANY}, got nothing. Type for example {ZONEOUT}."),
    ('[{name="DropConect", rate=0.1}]', f'[0].name: expected {ANY}, got "DropConect". Type ..., rate=0.5}}.'),
    ('[{name="DropConnect"}]', "[0].rate: expected a value, got nothing. Type for example {name="),
    (f'[{ZONEOUT}, {{name="Zoneout", c_rate=1}}]', "[1].c_rate: expected < 1, got 1. Type for example {name="),
    ('[{name="ClipGates", limit=0}]', "[0].limit: expected > 0, got 0. Type for example {name="),
    ('[{name="Zoneout", h_rte=0.1}]', "[0].h_rte: unknown key. Did you mean h_rate?"),
    ('[{name="ClipGates", limit=1.0, cell="LSTM"}]', "[0].cell: unknown key. ClipGates has limit."),
]
# overrides that contradict each other, or in a sweep; how the one line goes on behind the file
TOGETHER = [
    (['sweep.model.wrappers=[[], [{name="DropConnect", rate=-1}]]'], "[sweep]: ...[0].rate: expected >= 0, got -1."),
    ([f"sweep.model.wrappers=[{ZONEOUT}]"], f"[sweep]: model.wrappers: expected a list, got {ZONEOUT}. Type ...=[{{"),
    (["model.cell=SLSTM", "model.cell_clip=1.0"], "model.cell_clip: expected 0 for SLSTM, got 1.0. Leave it out."),
    # the library's own words
    (["model.cell=GRU", f"sweep.model.wrappers=[[], [{ZONEOUT}]]"], f"{NO_MEMORY}, since GRU has no memory beside h"),
    ([ONE, "sweep.model.cell=['LSTM', 'MinLSTM']"], f"{NO_MEMORY}, since MinLSTM has no memory beside h"),
    (
        ["model.cell=MinLSTM", 'model.wrappers=[{name="Zoneout"}, {name="DropConnect", rate=0.1}]'],
        "model.wrappers: DropConnect: cell: expected a cell that names its recurrent_params, got Zoneout",
    ),
]
WRONG = [([f"model.wrappers={value}"], f"command line: model.wrappers{words}") for value, words in VALUES]
WRONG += [(overrides, f"{ADDING}: {words}") for overrides, words in TOGETHER]


@pytest.mark.parametrize(("overrides", "words"), WRONG, ids=range(len(WRONG)))
def test_one_wrong_thing_is_one_line(overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, ADDING, PLAIN, *overrides)
    assert begins(line, words), line


def test_every_wrapper_can_be_named_with_all_its_fields() -> None:
    """The keys are the record's fields with its defaults; the first wrapper is the innermost one."""
    for (name, example), table in zip(schema.WRAPPERS.items(), typing.get_args(schema.Wrapper), strict=True):
        fields = {field.name: field for field in dataclasses.fields(getattr(jlstm, name)) if field.name != "cell"}
        assert list(example) == list(table.model_fields) == ["name", *fields] and table.__name__ == name
        for key, field in fields.items():
            missing = table.model_fields[key].default is PydanticUndefined
            assert field.default == (dataclasses.MISSING if missing else table.model_fields[key].default)
    every = f"model.wrappers={config._show(list(schema.WRAPPERS.values()))}"
    got = load(every, "model.hidden_size=4", PLAIN)
    inside = jlstm.VariationalDropout(jlstm.DropConnect(jlstm.Zoneout(jlstm.LSTM(4), 0.05, 0.2), 0.5), 0.2, 0.2)
    assert build_cell(got.model, memory=2) == jlstm.ClipGates(inside, 3.0)
    assert schema.Config.model_validate(tomllib.loads(got.toml())) == got


def test_a_config_without_these_keys_has_the_hash_it_had_before_there_were_any() -> None:
    """So a run that an older version left is resumed."""
    plain = load()
    text = tomli_w.dumps(plain.model_dump(exclude=set(schema.NO_NUMBERS)))
    before = text.replace("cell_clip = 0.0\n", "").replace("wrappers = []\n", "")
    assert before != text and plain.sha256() == hashlib.sha256(before.encode()).hexdigest()
    assert plain.sha256() not in [load(changed).sha256() for changed in (ONE, "model.cell_clip=3.0")]


@pytest.mark.parametrize("name", schema.WRAPPERS)
def test_noise_is_drawn_in_training_and_never_in_evaluation(name: str) -> None:
    sizes = ["task.length=6", "task.held_out=4", "model.hidden_size=4", "train.batch_size=3", PLAIN]
    got = load(*sizes, f"model.wrappers=[{config._show(schema.WRAPPERS[name])}]")
    task, silent = (tasks.make(got) for _ in range(2))
    silent.noisy = False  # pyright: ignore[reportAttributeAccessIssue]
    params, key = task.init(jax.random.key(0)), jax.random.key(1)
    # The same batch, and a key for the net or none: losses differ exactly where noise is drawn.
    loss, quiet = (float(it.loss(params, None, None, jnp.int32(0), key)[0]) for it in (task, silent))
    assert (loss != quiet) == (name != "ClipGates") == got.model.noisy
    x, target = task.held_out
    y = jlstm.unroll(task.net, params, x)[1][:, 0]
    np.testing.assert_allclose(task.evaluate(params, task.held_out), jnp.mean((y - target) ** 2), rtol=1e-6)


def test_a_run_of_a_wrapped_cell_its_files_and_its_picture(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY, "model.dropout=0.0", ONE, "run.dir=r"]
    assert main(argv) == 0 and Path("r/gates.png").exists()
    shown = capsys.readouterr().out
    assert "left out" not in shown and "gates:" not in shown
    got = config.load("r/config.toml").config
    assert got == load(*argv[1:])
    task, (net, params) = tasks.make(got), jlstm.load("r/model.safetensors")
    assert net == task.net and isinstance(net.layers[0], jlstm.Zoneout)
    (member,) = record()["result"]["members"]
    assert float(task.evaluate(params, task.held_out)) == pytest.approx(member["value"], rel=1e-5)
    (line,) = errors(capsys, *argv, "model.wrappers=[]")
    assert "(model.wrappers: [{'name': 'Zoneout', " in line


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_a_sweep_over_wrappers_is_a_program_each(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [ADDING, *TINY, f"sweep.model.wrappers=[[], [{ZONEOUT}], [{CLIP}, {ZONEOUT}]]", "sweep.seeds=2", "run.dir=r"]
    assert main(argv) == 0
    rows = lines("r/table.jsonl")
    assert sorted(len(row["model.wrappers"]) for row in rows) == [0, 0, 1, 1, 2, 2]
    assert len({row["value"] for row in rows}) == 6
    printed = capsys.readouterr().out.splitlines()[-5:]  # the table: a line each, and where it is written
    assert sorted(line.count("name") for line in printed) == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("wrap", "name", "first"),
    [
        (lambda cell: jlstm.Zoneout(cell, 0.1, 0.2), "LSTM in Zoneout", "input gate i"),
        (lambda cell: jlstm.DropConnect(jlstm.Zoneout(cell), 0.5), "LSTM in Zoneout in DropConnect", "input gate i"),
        (lambda cell: jlstm.ClipGates(cell, 0.1), "LSTM in ClipGates", "i, before its activation"),
    ],
)
def test_the_picture_of_a_wrapped_lstm_has_its_gates(wrap: typing.Any, name: str, first: str) -> None:
    net = jlstm.Stack((jlstm.GRU(3), wrap(jlstm.LSTM(5)), jlstm.Dense(2)))
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    params = net.init(jax.random.key(0), 3)
    (part,) = anatomy.look(net, params, x)
    assert part.name == f"{name} of 5 units (layer 2 of 2)"
    assert part.gates[0].name == first and [row.name for row in part.states] == ["cell state c", "hidden state h"]
    z = jlstm.trace(net, params, x)[1][1].z.i
    want = np.asarray(z if "before" in first else jax.nn.sigmoid(z))
    np.testing.assert_allclose(part.gates[0].values, want, atol=1e-6)
