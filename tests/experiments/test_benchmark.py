"""The benchmark: contenders with the same numbers and with others, its arithmetic, its files, its options."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_run import begins, errors

import jlstm
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import contenders, markdown, peers, promises, race, sections, timing
from experiments.benchmark.plan import Plan
from experiments.benchmark.problem import Problem, Program
from experiments.benchmark.results import Result, Row
from experiments.benchmark.timing import Summary

TABLE = {contender.name: contender for contender in contenders.CONTENDERS}
# The contract suite holds jlstm's backends against each other; torch runs in a process of its own.
PAIRS = [(net, name) for name, c in TABLE.items() if not name.startswith(("jlstm", "torch")) for net in c.nets]
FAST = [pytest.param(*pair, marks=() if pair[0] == "lstm" else pytest.mark.slow) for pair in PAIRS]
SIZES = (3, 4, 2, 5)
# Keras itself promotes ranks, and peers call what this jax deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture(autouse=True)
def settings():
    """Allow other frameworks to promote ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def numbers(net: Any, name: str, dtype: str = "float32") -> Any:
    """Outputs and gradients of a contender; the gradients are those of the `LSTMParams`."""
    if module := TABLE[name].module:
        pytest.importorskip(module, reason=f"{name} is not installed", exc_type=ImportError)
    case = Problem(*SIZES, net, dtype)
    params, x = contenders.example(case)
    ready = contenders.prepare(TABLE[name], case, params)
    fused = timing.compiled(lambda *a: {mode: f(*a) for mode, f in ready.functions.items()}, ready.leaves, x)
    found = fused(ready.leaves, x)
    return contenders.numbers(ready, x, {mode: lambda *_, mode=mode: found[mode] for mode in ready.functions})


@pytest.mark.parametrize(("net", "name"), FAST)
def test_contenders_agree_in_values_and_gradients(net: Any, name: str) -> None:
    got, want = numbers(net, name), numbers(net, "jlstm")
    assert got["outputs"].shape == (3, 4, 10 if net == "bidirectional" else 5)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(want))  # no zero is compared with a zero
    contenders.compare(name, got, want, "float32")


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name"), PAIRS)
def test_contenders_agree_in_bfloat16(net: Any, name: str) -> None:
    contenders.compare(name, numbers(net, name, "bfloat16"), numbers(net, "jlstm", "bfloat16"), "bfloat16")


def broken(change: str) -> contenders.Contender:
    """The hand-written scan with the biases of other gates, without a recurrent weight's gradient, or with an error."""

    def build(case: Problem) -> Program:
        good = peers.hand_written(case)

        def forward(params: Any, x: jax.Array) -> jax.Array:
            if change == "error":
                raise TypeError("no such call\nin this version")
            gradient = jax.lax.stop_gradient if change == "gradient" else lambda w_hh: w_hh
            order = slice(None, None, -1 if change == "gates" else 1)
            return good.forward([(w_ih, gradient(w_hh), b[order]) for w_ih, w_hh, b in params], x)

        return good._replace(forward=forward)

    return contenders.Contender(f"broken {change}", "", "", build)


def test_a_contender_with_other_numbers_is_refused() -> None:
    chosen = TABLE["jlstm"], *map(broken, ("gates", "gradient", "error"))
    asked = Plan((SIZES,), chosen, 2, "float32", lambda line: None)
    found = race.check(asked, Problem(*SIZES))
    lines = [
        r"broken gates: refused: \['.*'\].* differs from jlstm's by .*, 1e-04 is allowed\. \(lstm at 3,4,2,5\)",
        r"broken gradient: refused: \['gradients'\]\[0\]\.w_hh differs from jlstm's by 1\.0e\+00 .*",
        r"broken error: refused: TypeError: no such call \(lstm at 3,4,2,5\)",
    ]
    assert all(map(re.fullmatch, lines, asked.refused)) and len(asked.refused) == len(lines), asked.refused
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
    """A machine that is slow in the second half of the rounds changes the medians, not the ratio."""
    base = np.array([1.0, 1.0, 1.0, 10.0, 10.0])
    found = timing.summarise({"base": base, "peer": base * [2, 3, 4, 2, 4]}, "base")
    assert found["base"] == Summary(1.0, 1.0, 10.0, 1.0, 1.0, 1.0)
    assert found["peer"] == Summary(4.0, 3.0, 20.0, 3.0, 2.0, 4.0)
    assert markdown.geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1.0)
    shown = {1.5: "1.50 s", 0.012345: "12.3 ms", 0.00099951: "1.00 ms", 5e-7: "0.500 µs"}
    assert {seconds: markdown.seconds(seconds) for seconds in shown} == shown
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
    cell = jlstm.LSTM(9)
    each = jax.vmap(jax.grad(lambda p, x: jlstm.unroll(cell, p, x)[1].sum()), in_axes=(None, 0))
    assert promises.weight_gradients(timing.compiled(each, params, x).as_text(), sizes) != "none"


def test_a_second_call_that_compiles_is_counted() -> None:
    x = np.ones(3)
    f = jax.jit(lambda x: jax.lax.neg(x))  # a primitive: `x + 1` is on some versions of jax a jit, traced for itself
    counted = [promises.counted(f, a) for a in (x, x, x[:2])]
    assert counted == [f"{n} traces, {n} compilations" for n in (1, 0, 1)]


def run(folder: Path, *argv: str) -> dict[str, Any]:
    """The benchmark.json of two rounds."""
    assert benchmark.main([*argv, "--rounds", "2", "--out", str(folder)]) == 0
    return json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_files_parse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("length.png", "benchmark.json"):
        (tmp_path / name).write_text("of an earlier run")
    record = run(tmp_path, "--only", "shapes,retrace", "--contenders", "jlstm-scan,torch", "--shapes", "3,4,2,5")
    page = capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"benchmark.json", "benchmark.md", "shapes.png"}
    assert (tmp_path / "shapes.png").read_bytes().startswith(b"\x89PNG")
    assert page.strip() == (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip()
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, rule, *lines = [line.count("|") for line in block.splitlines()]
        assert lines and {head, rule, *lines} == {head}
    assert record["versions"]["jax"] == jax.__version__ and record["refused"] == []
    assert record["command"].startswith("python -m experiments.benchmark --only shapes,retrace --contenders")
    rows = record["sections"]["shapes"]["rows"]
    names = "jlstm", "jlstm-scan", contenders.AGAIN
    want = [("3,4,2,5", mode, name) for mode in contenders.MODES for name in names]
    assert [(row["case"], row["mode"], row["name"]) for row in rows if "torch" not in row["name"]] == want
    ours = {row["mode"]: row["median_seconds"] for row in rows if row["name"] == "jlstm"}
    for row in rows:
        low, high = row["quartiles_seconds"]
        assert 0 < low <= row["median_seconds"] <= high
        if "torch" in row["name"]:
            assert row["ratio"] == row["median_seconds"] / ours[row["mode"]] and row["ratio_quartiles"] is None
        else:
            assert row["ratio_quartiles"][0] <= row["ratio"] <= row["ratio_quartiles"][1]
            assert row["temporaries_bytes"] >= 0
    facts = record["sections"]["retrace"]["facts"].values()
    assert len(facts) == 4
    assert all(re.fullmatch("first call [1-9].*; second call 0 traces, 0 compilations", fact) for fact in facts)
    reason = contenders.missing(TABLE["torch"])
    assert record["left_out"] == ([reason] if reason else [])
    if reason:
        pytest.skip(reason)
    assert [row["mode"] for row in rows if "torch" in row["name"]] == list(contenders.MODES)


def test_a_missing_peer_is_one_line() -> None:
    for name, package in (("haiku", "dm-haiku"), ("torch", "torch==2.13.0")):
        line = f"{name}: left out: No module named 'no_such_module'. Type pip install {package}"
        assert contenders.missing(TABLE[name]._replace(module="no_such_module")) == line
    assert contenders.missing(TABLE["jlstm"]) is None


# what is typed; how the one line goes on behind "command line: "
WRONG = [
    ("--only shape", "argument --only: expected some of shapes,compile,..., got 'shape' (did you mean shapes?"),
    ("--contenders jlstm,pax", "argument --contenders: expected some of jlstm,jlstm-hoisted,..., got 'pax'"),
    ("--shapes 1,2,3", "argument --shapes: expected B,T,D,H ..., got '1,2,3'"),
    ("--shapes 1,2,0,3", "argument --shapes: expected B,T,D,H ..., got '1,2,0,3'"),
    ("--rounds 1", "argument --rounds: expected an integer >= 2, got '1'"),
    ("--dtype float16", "argument --dtype: invalid choice: 'float16'"),
    ("--device tpu", "--device: expected cpu, ..., got tpu."),
    (f"--out {__file__}", "--out: expected a directory, got ...test_benchmark.py': File exists."),
    ("--shape 1,2,3,4", "unrecognized arguments: --shape 1,2,3,4"),
]


@pytest.mark.parametrize(("typed", "words"), WRONG)
def test_a_wrong_option_is_one_line(typed: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = errors(capsys, *typed.split(" ", 1), main=benchmark.main)
    assert begins(line, f"command line: {words}"), line


@pytest.mark.slow
def test_all_sections_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "LENGTHS", (5, 10, 20))
    monkeypatch.setattr(promises, "LONG", 300)
    monkeypatch.setattr(sections, "COMPILES", 1)
    monkeypatch.setattr(sections, "SCAN_SIZES", ((2, 3),))
    found = run(tmp_path, "--shapes", "3,7,2,5")["sections"]
    assert list(found) == list(benchmark.SECTIONS)
    assert all(section["rows"] or section["facts"] for section in found.values())


def test_a_table_marks_what_is_not_there() -> None:
    one = Summary(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    two = one._replace(median=2.0, ratio=2.0, ratio_q1=1.5, ratio_q3=2.5)
    rows = [Row("a", "forward", "base", one, 1024), Row("b", "forward", "base", one), Row("a", "forward", "peer", two)]
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
