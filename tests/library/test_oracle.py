"""The oracle itself: against scalars written out, plain runs of the pieces, and central differences."""

import math
from functools import partial
from typing import Any

import jax
import numpy as np
import oracle
import pytest
from small import bitwise, equal, near


def random_params(rng: Any, features: int, hidden: int, *, bias: bool = True, initial: bool = True) -> Any:
    """Random `oracle.Params`, large enough that gates leave their linear range."""
    return oracle.Params(
        w_ih=rng.normal(size=(features, 4, hidden)),
        w_hh=rng.normal(size=(hidden, 4, hidden)),
        b=rng.normal(size=(4, hidden)) if bias else None,
        h0=rng.normal(size=hidden) if initial else None,
        c0=rng.normal(size=hidden) if initial else None,
    )


def problem(seed: int, *leading: int) -> tuple[np.random.Generator, Any, np.ndarray]:
    """A generator, parameters of three units, and inputs `[*leading, 2]`."""
    rng = np.random.default_rng(seed)
    return rng, random_params(rng, 2, 3), rng.normal(size=(*leading, 2))


def run(*args: Any, **options: Any) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The oracle's final state, and its outputs at all steps."""
    return oracle.lstm(*args, return_sequences=True, **options)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


# One unit with one feature, in plain scalars; every number different, so no two gates can be swapped unseen.
W, U, B = (0.3, -0.7, 1.1, 0.5), (-0.4, 0.9, 0.2, -1.3), (0.1, 1.0, -0.2, 0.6)


def scalar_step(x: float, h: float, c: float) -> tuple[float, float]:
    input_gate = sigmoid(W[0] * x + U[0] * h + B[0])
    forget_gate = sigmoid(W[1] * x + U[1] * h + B[1])
    candidate = math.tanh(W[2] * x + U[2] * h + B[2])
    output_gate = sigmoid(W[3] * x + U[3] * h + B[3])
    c = forget_gate * c + input_gate * candidate
    return output_gate * math.tanh(c), c


def test_two_steps_written_out_with_scalars() -> None:
    params = oracle.Params(*(np.reshape(w, (1, 4, 1)) for w in (W, U)), b=np.reshape(B, (4, 1)))
    h1, c1 = scalar_step(0.8, 0.25, -0.5)
    h2, c2 = scalar_step(-1.4, h1, c1)
    state = (np.array([0.25]), np.array([-0.5]))
    (h, c), y = run(params, [[0.8], [-1.4]], state=state)
    equal([h[0], c[0], *y[:, 0]], [h2, c2, h1, h2], 0, rtol=1e-14)


@pytest.mark.parametrize(("gate", "cell"), [("i", 0.25), ("f", 0.0), ("g", 0.75), ("o", 0.25)])
def test_each_gate_does_its_own_work(gate: str, cell: float) -> None:
    """All pre-activations 0, so i = f = o = 1/2 and g = 0, but one is -40 (i, f) or 40 (g, o). c was 1/2."""
    b = np.zeros((4, 1))
    b["ifgo".index(gate)] = 40.0 if gate in "go" else -40.0
    params = (np.zeros((1, 4, 1)), np.zeros((1, 4, 1)), b)
    (h, c), _ = oracle.lstm(params, [[1.0]], state=(np.zeros(1), np.array([0.5])))
    equal([c[0], h[0]], [cell, (1.0 if gate == "o" else 0.5) * math.tanh(cell)], 1e-15, rtol=1e-7)


def test_relu_and_hard_sigmoid_by_hand() -> None:
    """z = x = 1.5 in every gate: i = f = o = 1.5/6 + 1/2 = 0.75, g = 1.5, c = 0.75 * 2 + 0.75 * 1.5, h = 0.75 c."""
    params = (np.ones((1, 4, 1)), np.zeros((1, 4, 1)), None)
    state = (np.zeros(1), np.array([2.0]))
    (h, c), _ = oracle.lstm(params, [[1.5]], state=state, activation="relu", gate_activation="hard_sigmoid")
    equal([c[0], h[0]], [2.625, 1.96875], 0, rtol=1e-15)


def test_several_units_against_a_flat_matrix() -> None:
    """The gate axis is a view of the usual `[D, 4H]` matrix with blocks i, f, g, o."""
    rng = np.random.default_rng(0)
    p = random_params(rng, 3, 2)
    x, h, c = rng.normal(size=3), rng.normal(size=2), rng.normal(size=2)
    z = x @ p.w_ih.reshape(3, 8) + h @ p.w_hh.reshape(2, 8) + p.b.reshape(8)
    i, f, o = (1.0 / (1.0 + np.exp(-z[k : k + 2])) for k in (0, 2, 6))
    c_new = f * c + i * np.tanh(z[4:6])
    (h_got, c_got), y = oracle.lstm(p, x[None], state=(h, c))
    equal((h_got, c_got), (o * np.tanh(c_new), c_new), 0, rtol=1e-14)
    bitwise(y, h_got)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_and_masks_equal_the_sequence_without_the_hidden_steps(reverse: bool) -> None:
    rng, p, x = problem(1, 5, 6)
    lengths = np.array([6, 4, 0, 99, -3])
    mask = rng.random((5, 6)) < 0.6
    mask[3] = False
    valid = mask & (np.arange(6) < lengths[:, None])
    dirty = np.where(valid[..., None], x, np.nan)
    options: dict[str, Any] = {"lengths": lengths, "mask": mask, "reverse": reverse}
    (h, c), sequence = run(p, dirty, **options)
    _, last = oracle.lstm(p, dirty, **options)
    for row in range(5):
        state, y = run(p, x[row][valid[row]], reverse=reverse)
        bitwise((h[row], c[row]), state)
        bitwise(sequence[row][valid[row]], y)
        assert not np.any(sequence[row][~valid[row]])
        bitwise(last[row], (y[0] if reverse else y[-1]) if valid[row].any() else np.zeros(3))


def test_reverse_is_the_flipped_sequence() -> None:
    rng, p, x = problem(2, 2, 5)
    state = (rng.normal(size=(2, 3)), rng.normal(size=(2, 3)))
    end, y = run(p, x[:, ::-1], state=state)
    bitwise(run(p, x, state=state, reverse=True), (end, y[:, ::-1]))


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_equal_separate_runs_of_the_episodes(reverse: bool) -> None:
    """Episodes [0, 2), [2, 5), [5, 7); step 5, where the last begins, is masked; a reset at the length does nothing."""
    rng, p, x = problem(3, 8)
    state = (rng.normal(size=3), rng.normal(size=3))
    resets, mask = np.zeros(8, bool), np.ones(8, bool)
    resets[[2, 5, 7]] = True
    mask[5] = False
    end, y = run(p, x, state=state, lengths=7, mask=mask, resets=resets, reverse=reverse)
    episodes = [slice(0, 2), slice(2, 5), slice(5, 7)][:: -1 if reverse else 1]
    starts = (state, None, None)
    runs = [run(p, x[e], state=s, mask=mask[e], reverse=reverse) for e, s in zip(episodes, starts, strict=True)]
    bitwise([y[episode] for episode in episodes], [y for _, y in runs])
    bitwise(end, runs[-1][0])


@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_continue_the_sequence_resets_included(reverse: bool) -> None:
    _, p, x = problem(4, 3, 6)
    resets = np.zeros((3, 6), bool)
    resets[0, 3] = resets[1, 0] = resets[2, 2] = True
    whole = run(p, x, resets=resets, reverse=reverse)
    state, pieces = None, {}
    for start in (3, 0) if reverse else (0, 3):
        part = slice(start, start + 3)
        state, pieces[start] = run(p, x[:, part], state=state, resets=resets[:, part], reverse=reverse)
    bitwise((state, np.concatenate([pieces[0], pieces[3]], axis=1)), whole)
    if reverse:
        (h, c), _ = whole
        bitwise((h[1], c[1]), (p.h0, p.c0))


def test_a_reset_hides_a_nan_state_and_a_hidden_reset_still_resets() -> None:
    _, p, x = problem(5, 2)
    nan = (np.full(3, np.nan), np.full(3, np.nan))
    bitwise(oracle.lstm(p, x, state=nan, resets=[True, False])[0], oracle.lstm(p, x)[0])
    end, y = oracle.lstm(p, x, state=nan, mask=[False, False], resets=[False, True])
    bitwise(end, (p.h0, p.c0))
    assert not np.any(y)


def test_batch_axes_time_zero_and_batch_zero() -> None:
    _, p, x = problem(6, 2, 3, 4)
    lengths = np.array([[4, 0, 2], [1, 3, 9]])
    (h, _), y = oracle.lstm(p, x, lengths=lengths)
    (h_flat, _), y_flat = oracle.lstm(p, x.reshape(6, 4, 2), lengths=lengths.reshape(6))
    bitwise((h, y), (h_flat.reshape(2, 3, 3), y_flat.reshape(2, 3, 3)))
    end, y = run(p, np.zeros((5, 0, 2)))
    bitwise(end, (np.tile(p.h0, (5, 1)), np.tile(p.c0, (5, 1))))
    assert y.shape == (5, 0, 3)
    (h, _), y = oracle.lstm(p, np.zeros((0, 4, 2)))
    assert h.shape == y.shape == (0, 3)


def test_bidirectional_and_stack_are_their_parts() -> None:
    rng = np.random.default_rng(7)
    first, second, top = (random_params(rng, d, 2) for d in (3, 3, 4))
    x, lengths = rng.normal(size=(2, 4, 3)), np.array([4, 2])
    f, y_f = run(first, x, lengths=lengths)
    b, y_b = run(second, x, lengths=lengths, reverse=True)
    both = {"concat": np.concatenate([y_f, y_b], -1), "sum": y_f + y_b, "mul": y_f * y_b, "mean": (y_f + y_b) / 2}
    for merge, expected in (both | {"none": (y_f, y_b)}).items():
        got = oracle.bidirectional(first, second, x, merge=merge, lengths=lengths, return_sequences=True)
        bitwise(got, ((f, b), expected))
    states, y = oracle.stack([partial(oracle.bidirectional, first, second), top], x, lengths=lengths)
    bitwise(states[0], (f, b))
    bitwise((states[1], y), oracle.lstm(top, both["concat"], lengths=lengths))


GRADIENT_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "state": {"state": True},
    "no bias, no h0": {"bias": False, "initial": False},
    "ragged": {"lengths": [5, 2, 0]},
    "holes": {"mask": True, "state": True},
    "resets": {"resets": True},
    "everything": {"state": True, "lengths": [9, 3, 4], "mask": True, "resets": True},
    "activations": {"state": True, "activation": "softsign", "gate_activation": "hard_sigmoid"},
}


@pytest.mark.parametrize("case", GRADIENT_CASES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_hand_written_gradients_equal_central_differences(case: str, reverse: bool, return_sequences: bool) -> None:
    options: dict[str, Any] = {"reverse": reverse, "return_sequences": return_sequences} | GRADIENT_CASES[case]
    rng = np.random.default_rng(8)
    batch, time, features, hidden = 3, 5, 2, 2
    params = random_params(rng, features, hidden, bias=options.pop("bias", True), initial=options.pop("initial", True))
    x, h, c = (rng.normal(size=s) for s in ((batch, time, features), (batch, hidden), (batch, hidden)))
    state = (h, c) if options.pop("state", False) else None
    if options.pop("mask", False):
        options["mask"] = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 0, 1]], bool)
    if options.pop("resets", False):
        # Row 0 resets where the mask hides the step, row 1 at the start and beyond its length 3, row 2 twice running.
        options["resets"] = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 1, 1, 0]], bool)
    w_out = rng.normal(size=(batch, time, hidden) if return_sequences else (batch, hidden))
    w_h, w_c = rng.normal(size=(batch, hidden)), rng.normal(size=(batch, hidden))

    def loss(*leaves: np.ndarray) -> float:
        p, inputs, start = jax.tree.unflatten(jax.tree.structure((params, x, state)), leaves)
        (h_end, c_end), y = oracle.lstm(p, inputs, state=start, **options)
        return np.sum(y * w_out) + np.sum(h_end * w_h) + np.sum(c_end * w_c)

    want = list(oracle.gradients(loss, jax.tree.leaves((params, x, state))))
    got = oracle.lstm_gradients(params, x, w_out, w_h, w_c, state=state, **options)
    near(jax.tree.leaves(got), want, 1e-7, at_least=1.0)


def test_central_differences_by_hand() -> None:
    def cubic(x: np.ndarray, y: np.ndarray) -> Any:
        return np.sum(x**3) * y[0]

    x, y = np.array([[1.0, -2.0]]), np.array([0.5])
    dx, dy = oracle.gradients(cubic, (x, y))
    equal((dx, dy), (3 * x**2 * 0.5, np.array([-7.0])), 0, rtol=1e-8)
    bitwise(x, np.array([[1.0, -2.0]]))
