"""Tasks over symbols: each generator against a slow one of its own, and what their measures count."""

from __future__ import annotations

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import made

import jlstm
from experiments.config import UsageError
from experiments.tasks import copy_memory, reber, temporal_order

N, LONGEST = 2000, 41


# The formal languages, by counts and arithmetic of Python's own.
SLOW = {
    "parity": lambda names: names.count("1") % 2,
    "even_pairs": lambda names: sum(a != b for a, b in itertools.pairwise(names)) % 2,
    "cycle_navigation": lambda names: sum(map(int, names)) % 5,
    "modular_arithmetic": lambda names: eval("".join(names)) % 5,  # digits and + - * of our own making
}


@pytest.mark.parametrize("name", SLOW)
def test_formal_languages(name: str) -> None:
    task = made(name, f"train.batch_size={N}", f"task.length={LONGEST}", "task.test=2", "task.test_length=60")
    draw = jax.jit(task.draw)
    tokens, lengths, targets = map(np.asarray, draw(jax.random.key(0)))
    odd = name == "modular_arithmetic"
    assert tokens.shape == (N, LONGEST + 1) and lengths.min() == 2 and lengths.max() == LONGEST + 1
    counts = np.bincount((lengths - 1) // (1 + odd), minlength=LONGEST // (1 + odd) + 1)[0 if odd else 1 :]
    assert abs(counts[1:-1] - N * (1 + odd) / LONGEST).max() < 6 * np.sqrt(N * (1 + odd) / LONGEST)
    question = len(task.names) - 1
    for row, length, target in zip(tokens, lengths, targets, strict=True):
        assert row[length - 1] == question and (row[: length - 1] < question).all()
        assert SLOW[name]([task.names[token] for token in row[: length - 1]]) == target
    assert (np.bincount(targets, minlength=task.classes) > N / task.classes / 2).all()
    assert set(tokens[:, 0]) == set(range(5 if odd else question))  # every symbol is there
    again, other = draw(jax.random.key(0)), draw(jax.random.key(1))
    np.testing.assert_array_equal(tokens, again.tokens)
    assert (tokens != other.tokens).any()
    asked = np.repeat(np.arange(42, 61), 2)
    np.testing.assert_array_equal(np.asarray(task.test.lengths) - 1, asked - (asked % 2 == 0) * odd)


def test_the_score_by_length_is_of_the_strings_of_each_length() -> None:
    task = made("parity", "task.length=2", "task.test_length=4", "task.test=9", "task.held_out=4")
    params = jax.jit(task.init)(jax.random.key(0))
    found = task.findings(params, jax.random.key(0))
    right = []
    for data in (task.held_out, task.test):
        for row, length, target in zip(*map(np.asarray, data), strict=True):
            x = np.eye(3, dtype=np.float32)[row[:length]]
            right.append((int(length) - 1, int(np.argmax(jlstm.unroll(task.net, params, x)[1])) == target))
    for length, got in zip(found.by_length.lengths, found.by_length.values, strict=True):
        assert got == pytest.approx(100 * np.mean([is_right for at, is_right in right if at == length]))
    assert found.by_length.trained_to == 2 and list(found.by_length.lengths) == [1, 2, 3, 4]
    score = 100 * np.mean([is_right for at, is_right in right if at > 2])
    assert task.evaluate(params, task.test) == pytest.approx(score) and 0 < score < 100
    assert task.example().symbols[-1] == "?" and len(task.example().inputs) == 3
    with pytest.raises(UsageError, match=re.escape("task.test_length: expected more than task.length = 40, got 40.")):
        made("parity", "task.test_length=40")


@pytest.mark.parametrize("relevant", [2, 3])
def test_temporal_order(relevant: int) -> None:
    draw = jax.jit(temporal_order.batch, static_argnums=(1, 2))
    tokens, lengths, targets = map(np.asarray, draw(jax.random.key(0), N, relevant))
    names = np.array(temporal_order.SYMBOLS)
    classes = {2: "XX XY YX YY", 3: "XXX XXY XYX XYY YXX YXY YYX YYY"}[relevant].split()
    spans = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}[relevant]
    places = []
    for row, length, target in zip(tokens, lengths, targets, strict=True):
        text = "".join(names[row[:length]])
        assert re.fullmatch("E[abcdXY]*B", text)
        assert re.sub("[^XY]", "", text) == classes[target]
        places.append([match.start() for match in re.finditer("[XY]", text)])
    assert set(lengths) == set(range(100, 111))
    for column, (first, last) in zip(np.array(places).T, spans, strict=True):
        assert set(column) == set(range(first, last + 1))
    assert (np.bincount(targets) > N / len(classes) / 2).all() and len(np.bincount(targets)) == len(classes)
    np.testing.assert_array_equal(tokens, draw(jax.random.key(0), N, relevant).tokens)


def test_a_sequence_is_right_if_every_output_is_within_the_tolerance() -> None:
    task = made("temporal_order", "task.test=20")
    for share, wanted in ((0.71, True), (0.69, False)):
        p = np.full(4, (1 - share) / 3, np.float32)
        p[2] = share
        assert task.right(jnp.log(p), 2) == wanted and not task.right(jnp.log(p), 1)
    params = jax.jit(task.init)(jax.random.key(0))
    params = (*params[:-1], params[-1]._replace(b=params[-1].b.at[1].set(9.0)))  # always the second class
    share = 100 * np.mean(np.asarray(task.test.targets) == 1)
    assert task.evaluate(params, task.test) == pytest.approx(share) and share > 0


def test_copy_memory() -> None:
    draw = jax.jit(copy_memory.batch, static_argnums=(1, 2))
    inputs, targets = map(np.asarray, draw(jax.random.key(0), N, 7))
    np.testing.assert_array_equal(inputs[:, 10:], [[8] * 6 + [9] + [8] * 10] * N)
    np.testing.assert_array_equal(targets, np.hstack([np.full((N, 17), 8), inputs[:, :10]]))
    assert abs(np.bincount(inputs[:, :10].ravel()) / (N * 10) - 1 / 8).max() < 0.01
    np.testing.assert_array_equal(inputs, draw(jax.random.key(0), N, 7)[0])
    task = made("copy_memory", "task.length=7", "task.test=3")
    params = jax.jit(task.init)(jax.random.key(0))
    x = np.eye(10, dtype=np.float32)[np.asarray(task.test[0])]
    logits = np.asarray(jlstm.unroll(task.net, params, x, return_sequences=True)[1], np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = np.asarray(task.test[1])
    assert task.evaluate(params, task.test) == pytest.approx(-np.take_along_axis(logp, target[..., None], 2).mean())
    recalled = 100 * (logits.argmax(-1) == target)[:, -10:].mean()
    assert task.findings(params, jax.random.key(0)).numbers["symbols recalled [%]"] == pytest.approx(recalled)
    assert task.baselines()["without memory"] == pytest.approx(10 * np.log(8) / 27)


# Reber's grammar once more, as a regular expression, and what may follow a prefix by asking which ones go on.
INNER = "B(?:TS*X(?:XT*V(?:PXT*V)*(?:V|PS)|S)|PT*V(?:PXT*V)*(?:V|PS))E"
GRAMMAR = re.compile(f"BT{INNER}TE|BP{INNER}PE")
SYMBOLS = np.array(list(reber.SYMBOLS))


def test_strings_of_the_embedded_reber_grammar() -> None:
    longest = 40
    draw = jax.jit(reber.strings, static_argnums=(1, 2))
    tokens, lengths, legal = map(np.asarray, draw(jax.random.key(0), 20000, longest))
    texts = ["".join(SYMBOLS[row[:length]]) for row, length in zip(tokens, lengths, strict=True)]
    assert all(GRAMMAR.fullmatch(text) for text in set(texts))
    # With 20000 strings every continuation of a short prefix has been seen.
    after: dict[str, set[str]] = {}
    for text in texts:
        for at in range(1, len(text)):
            after.setdefault(text[:at], set()).add(text[at])
    for text, row in zip(texts[:2000], legal, strict=False):
        for at in range(1, min(9, len(text))):
            assert set(SYMBOLS[row[at - 1]]) == after[text[:at]]
    # A free run of the grammar has the shortest string BTBTXSETE with probability 1/2 for each of its four choices.
    assert texts.count("BTBTXSETE") / len(texts) == pytest.approx(1 / 16, abs=0.008)
    assert abs(np.mean([text[1] == "T" for text in texts]) - 0.5) < 0.02
    assert lengths.min() == 9 and lengths.max() <= longest and len(set(lengths)) > 15
    np.testing.assert_array_equal(tokens, draw(jax.random.key(0), 20000, longest).tokens)
    # The bound conditions and does not cut: among strings of 9 symbols each has its share.
    short = np.asarray(draw(jax.random.key(1), 1000, 9).tokens)
    assert {"".join(SYMBOLS[row]) for row in short} == {"BTBTXSETE", "BTBPVVETE", "BPBTXSEPE", "BPBPVVEPE"}


def test_a_reber_string_is_right_if_its_legal_successors_are_the_most_active() -> None:
    task = made("reber")
    params = jax.tree.map(lambda p: 3 * p, jax.jit(task.init)(jax.random.key(1)))
    tokens, lengths, legal = map(np.asarray, task.held_out)
    # An untrained net is right on no whole string, so strings are cut behind the second symbol.
    cut = np.minimum(lengths, 2)
    data = task.held_out._replace(lengths=jnp.asarray(cut))
    x = np.eye(7, dtype=np.float32)[tokens[:, :-1]]
    logits = np.asarray(jlstm.unroll(task.net, params, x, return_sequences=True)[1])
    right = [
        all(set(np.argsort(-y[at])[: ok[at].sum()]) == set(np.flatnonzero(ok[at])) for at in range(length - 1))
        for y, ok, length in zip(logits, legal, cut, strict=True)
    ]
    for bias in (0.0, 9.0):  # T and P are what may follow the first B
        head = params[-1]._replace(b=params[-1].b.at[1:3].add(bias))
        wanted = 100 * np.mean(right) if bias == 0 else 100.0
        assert task.evaluate((*params[:-1], head), data) == pytest.approx(wanted)
    with pytest.raises(UsageError, match=r"model.bidirectional: expected false for reber"):
        made("reber", "model.bidirectional=true")
