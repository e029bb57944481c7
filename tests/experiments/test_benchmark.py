"""The benchmark: contenders with the same numbers, one with others, its arithmetic, its files, its options."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("pydantic", reason="the experiments extra is not installed", exc_type=ImportError)

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import contenders, markdown, peers, promises, race, sections, timing
from experiments.benchmark.plan import Plan
from experiments.benchmark.problem import Problem, Program
from experiments.benchmark.results import Result, Row
from experiments.benchmark.timing import Summary

TABLE = {contender.name: contender for contender in contenders.CONTENDERS}
# The contract suite holds jlstm's backends against each other; torch runs in a process of its own.
PAIRS = [(net, name) for name, c in TABLE.items() if not name.startswith(("jlstm", "torch")) for net in c.nets]
# Keras itself promotes ranks, and peers call what this jax deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture(autouse=True)
def settings():
    """Other frameworks promote ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


def plan(*chosen: contenders.Contender, dtype: str = "float32") -> Plan:
    return Plan(((3, 4, 2, 5),), (TABLE["jlstm"], *chosen), 2, dtype, lambda line: None)


def problem(net: Any = "lstm", dtype: str = "float32") -> Problem:
    return Problem(3, 4, 2, 5, net, dtype)


@functools.cache
def numbers(net: Any, name: str, dtype: str = "float32") -> Any:
    """Outputs and gradients of a contender; the gradients are those of the `LSTMParams`."""
    case = problem(net, dtype)
    params, x = contenders.example(case)
    ready = contenders.prepare(TABLE[name], case, params)
    fused = timing.compiled(lambda *a: {mode: f(*a) for mode, f in ready.functions.items()}, ready.leaves, x)
    found = fused(ready.leaves, x)
    return contenders.numbers(ready, x, {mode: lambda *_, mode=mode: found[mode] for mode in ready.functions})


def imported(name: str) -> None:
    if TABLE[name].module:
        pytest.importorskip(TABLE[name].module, reason=f"{name} is not installed", exc_type=ImportError)


# Stacks and two directions with `--slow`.
@pytest.mark.parametrize(
    ("net", "name"),
    [pytest.param(net, name, marks=() if net == "lstm" else pytest.mark.slow) for net, name in PAIRS],
)
def test_contenders_agree_in_values_and_gradients(net: Any, name: str) -> None:
    imported(name)
    got, want = numbers(net, name), numbers(net, "jlstm")
    assert got["outputs"].shape == (3, 4, 10 if net == "bidirectional" else 5)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(want))  # no zero is compared with a zero
    contenders.compare(name, got, want, "float32")


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name"), PAIRS)
def test_contenders_agree_in_bfloat16(net: Any, name: str) -> None:
    imported(name)
    contenders.compare(name, numbers(net, name, "bfloat16"), numbers(net, "jlstm", "bfloat16"), "bfloat16")


def broken(change: str) -> contenders.Contender:
    """The hand-written scan, with two gates swapped, or with a recurrent weight that gets no gradient."""

    def build(case: Problem) -> Program:
        good = peers.hand_written(case)

        def convert(params: Any) -> Any:
            if change == "gates":
                params = [p._replace(b=p.b[np.array([1, 0, 2, 3])]) for p in params]
            return good.convert(params)

        def forward(params: Any, x: jax.Array) -> jax.Array:
            if change == "gradient":
                params = [(w_ih, jax.lax.stop_gradient(w_hh), b) for w_ih, w_hh, b in params]
            if change == "error":
                raise TypeError("no such call\nin this version")
            return good.forward(params, x)

        return Program(convert, forward)

    return contenders.Contender(f"broken {change}", "", "", build)


def test_who_computes_other_numbers_is_refused() -> None:
    asked = plan(*map(broken, ("gates", "gradient", "error")))
    found = race.check(asked, problem())
    lines = [
        r"broken gates: refused: \['.*'\].* differs from jlstm's by .*, 1e-04 is allowed\. \(lstm at 3,4,2,5\)",
        r"broken gradient: refused: \['gradients'\]\[0\]\.w_hh differs from jlstm's by 1\.0e\+00 .*",
        r"broken error: refused: TypeError: no such call \(lstm at 3,4,2,5\)",
    ]
    for said, line in zip(asked.refused, lines, strict=True):
        assert re.fullmatch(line, said), said
    assert list(found.ready) == list(found.programs) == ["jlstm"]


def test_nan_and_wrong_shapes_disagree() -> None:
    want = {"a": np.ones(3)}
    for got in (np.array([1.0, np.nan, 1.0]), np.ones((3, 1))):
        with pytest.raises(contenders.DisagreementError):
            contenders.compare("peer", {"a": got}, want, "float32")
    with pytest.raises(contenders.DisagreementError, match="other arrays"):
        contenders.compare("peer", {"b": want["a"]}, want, "float32")
    contenders.compare("peer", {"a": want["a"] * (1 + 5e-5)}, want, "float32")
    contenders.compare("peer", {"a": np.zeros(3)}, {"a": np.zeros(3)}, "float32")


def test_ratios_are_taken_pair_by_pair() -> None:
    """The second half of the rounds ran on a slow machine: the ratio does not see it, the medians do."""
    base = np.array([1.0, 1.0, 1.0, 10.0, 10.0])
    found = timing.summarise({"base": base, "peer": base * [2, 3, 4, 2, 4]}, "base")
    assert found["base"] == Summary(1.0, 1.0, 10.0, 1.0, 1.0, 1.0)
    assert found["peer"] == Summary(4.0, 3.0, 20.0, 3.0, 2.0, 4.0)
    assert markdown.geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1.0)
    assert [markdown.seconds(s) for s in (1.5, 0.012345, 0.00099951, 5e-7)] == [
        "1.50 s",
        "12.3 ms",
        "1.00 ms",
        "0.500 µs",
    ]
    assert [markdown.size(n) for n in (512, 3 << 20)] == ["0.5 KiB", "3.0 MiB"]


def test_rounds_interleave_in_shuffled_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REST", 0.0)
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = timing.rounds(calls, 20, repeats=2)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 20, "b": 20, "c": 20}
    timed = order[6:][::2]  # behind two warm calls each; every timed go has two
    rounds = ["".join(timed[n : n + 3]) for n in range(0, 60, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds) and len(set(rounds)) == 6


def test_weight_gradients_of_every_example_are_seen() -> None:
    sizes = Problem(6, 7, 5, 9)
    text = "f32[6,9,4,9]{3,2,1,0} dot(), bf16[7,36,9,6]{0} add(), f32[7,6,36] x, f32[9,4,9] y, s32[6,9,4,9] z"
    assert promises.weight_gradients(text, sizes) == "[6,9,4,9], [7,36,9,6]"
    assert promises.weight_gradients("f32[7,6,36] x, f32[9,4,9] y", sizes) == "none"
    assert promises.weight_gradients(text, sizes._replace(B=9)).startswith("not looked for")
    # A gradient of its own for every example has to hold them.
    (params,), x = contenders.example(sizes)
    import jlstm

    cell = jlstm.LSTM(9)
    each = jax.vmap(jax.grad(lambda p, x: jlstm.unroll(cell, p, x)[1].sum()), in_axes=(None, 0))
    assert promises.weight_gradients(timing.compiled(each, params, x).as_text(), sizes) != "none"


def test_a_second_call_that_compiles_is_counted() -> None:
    x = np.ones(3)
    f = jax.jit(lambda x: jax.lax.neg(x))  # a primitive: `x + 1` is on some versions of jax a jit, traced for itself
    assert [promises.counted(f, a) for a in (x, x, x[:2])] == [
        "1 traces, 1 compilations",
        "0 traces, 0 compilations",
        "1 traces, 1 compilations",
    ]


@pytest.mark.slow
def test_files_parse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("length.png", "benchmark.json"):
        (tmp_path / name).write_text("of an earlier run")
    sizes = ["--shapes", "3,4,2,5", "--rounds", "2", "--out", str(tmp_path)]
    assert benchmark.main(["--only", "shapes,retrace", "--contenders", "jlstm-scan,torch", *sizes]) == 0
    page = capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"benchmark.json", "benchmark.md", "shapes.png"}
    assert (tmp_path / "shapes.png").read_bytes().startswith(b"\x89PNG")
    assert page.strip() == (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip()
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, rule, *lines = [line.count("|") for line in block.splitlines()]
        assert lines and {head, rule, *lines} == {head}
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert record["versions"]["jax"] == jax.__version__ and record["refused"] == []
    assert record["command"].startswith("python -m experiments.benchmark --only shapes,retrace --contenders")
    rows = record["sections"]["shapes"]["rows"]
    names = ["jlstm", "jlstm-scan", contenders.AGAIN]
    assert [(row["case"], row["mode"], row["name"]) for row in rows if "torch" not in row["name"]] == [
        ("3,4,2,5", mode, name) for mode in contenders.MODES for name in names
    ]
    ours = {row["mode"]: row["median_seconds"] for row in rows if row["name"] == "jlstm"}
    for row in rows:
        low, high = row["quartiles_seconds"]
        assert 0 < low <= row["median_seconds"] <= high
        if "torch" in row["name"]:
            assert row["ratio"] == row["median_seconds"] / ours[row["mode"]] and row["ratio_quartiles"] is None
        else:
            assert row["ratio_quartiles"][0] <= row["ratio"] <= row["ratio_quartiles"][1]
            assert row["temporaries_bytes"] >= 0
    facts = record["sections"]["retrace"]["facts"]
    assert len(facts) == 4 and all(
        re.fullmatch("first call [1-9].*; second call 0 traces, 0 compilations", fact) for fact in facts.values()
    )
    reason = contenders.missing(TABLE["torch"])
    assert record["left_out"] == ([reason] if reason else [])
    if reason:
        pytest.skip(reason)
    assert [row["mode"] for row in rows if "torch" in row["name"]] == list(contenders.MODES)


def test_a_missing_peer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = TABLE["haiku"]._replace(module="no_such_module")
    line = "haiku: left out: No module named 'no_such_module'. Type pip install dm-haiku"
    assert contenders.missing(gone) == line
    assert contenders.missing(TABLE["torch"]._replace(module="no_such_module")) == (
        "torch: left out: No module named 'no_such_module'. Type pip install torch==2.13.0"
    )
    assert contenders.missing(TABLE["jlstm"]) is None


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--only", "shape"], "argument --only: expected some of shapes,compile,.*, got 'shape' .did you mean shapes?"),
        (["--contenders", "jlstm,pax"], "argument --contenders: expected some of jlstm,jlstm-scan,.*, got 'pax'"),
        (["--shapes", "1,2,3"], "argument --shapes: expected B,T,D,H as 32,100,64,128, got '1,2,3'"),
        (["--shapes", "1,2,0,3"], "argument --shapes: expected B,T,D,H as 32,100,64,128, got '1,2,0,3'"),
        (["--rounds", "1"], "argument --rounds: expected an integer >= 2, got '1'"),
        (["--dtype", "float16"], "argument --dtype: invalid choice: 'float16'"),
        (["--device", "tpu"], "--device: expected cpu, all this jax has, got tpu."),
        (["--out", __file__], "--out: expected a directory, got .*test_benchmark.py': File exists."),
        (["--shape", "1,2,3,4"], "unrecognized arguments: --shape 1,2,3,4"),
    ],
)
def test_a_wrong_option_is_one_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert re.match(f"command line: {line}", shown.err), shown.err


@pytest.mark.slow
def test_all_sections_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "LENGTHS", (5, 10, 20))
    monkeypatch.setattr(promises, "LONG", 300)
    monkeypatch.setattr(sections, "COMPILES", 1)
    argv = ["--shapes", "3,7,2,5", "--rounds", "2", "--out", str(tmp_path)]
    assert benchmark.main(argv) == 0
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert list(record["sections"]) == list(benchmark.SECTIONS)
    assert all(section["rows"] or section["facts"] for section in record["sections"].values())


def test_a_table_marks_what_is_not_there() -> None:
    one = Summary(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    rows = [
        Row("a", "forward", "base", one, 1024),
        Row("b", "forward", "base", one),
        Row("a", "forward", "peer", one._replace(median=2.0, ratio=2.0, ratio_q1=1.5, ratio_q3=2.5)),
    ]
    assert markdown.tables(Result("title", "about", "base", rows, mean=True)).splitlines() == [
        "| forward | a | b | geometric mean |",
        "| --- | ---: | ---: | ---: |",
        "| base | 1.00 s | 1.00 s | 1.00 |",
        "| peer | 2.00 s · 2.00 (1.50-2.50) | — | — |",
        "",
        "| forward: temporaries | a | b |",
        "| --- | ---: | ---: |",
        "| base | 1.0 KiB | — |",
    ]
