"""Programs around `step`: donated states, dtypes in loops of your own; and inputs that JAX alone would misread."""

from __future__ import annotations

import warnings
from typing import Any

import cases
import covering
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import equal

import jlstm

B, T, D = 2, 5, cases.D
PLAIN = [name for name in cases.ONE_WAY if name not in ("embed", "counter", "elman")]


CELL = jlstm.LSTM(cases.H)
PARAMS = cases.seeded(CELL)
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")


def buffers(tree: Any) -> list[int]:
    return [a.unsafe_buffer_pointer() for a in jax.tree.leaves(tree)]


@pytest.mark.parametrize("row", covering.thinned(cases.ONE_WAY, 2))
def test_states_share_no_buffer(row: str) -> None:
    """Leaves of a state share none with each other or with the params, so that a state can be donated."""
    net, rng = cases.ROWS[row], np.random.default_rng(0)
    params = jax.tree.map(jnp.asarray, cases.random_params(rng, net, "float32"))
    for batch in ((), (1,), (B,)):
        start = net.initial_state(params, batch)
        x = jnp.asarray(cases.random_inputs(rng, net, batch, "float32"))
        new, _ = jlstm.step(net, params, start, x)
        for state in (start, new):
            assert len(set(buffers((params, state)))) == len(buffers((params, state)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a buffer that is not taken is a warning
        donated = jax.jit(lambda state: jlstm.step(net, params, state, x)[0], donate_argnums=0)(start)
    equal(donated, new, 1e-6)
    jax.block_until_ready(params)


def dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.dtype, tree)


@pytest.mark.parametrize(
    "params_dtype, x_dtype", [("bfloat16", "float32"), pytest.param("float32", "float64", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("row", covering.thinned(PLAIN, 3))
def test_step_keeps_the_dtypes_of_its_state(x64: None, row: str, params_dtype: str, x_dtype: str) -> None:
    """It runs in a scan of your own, whatever the dtype of x. Where no state is rounded, T steps are one unroll."""
    net, rng = cases.ROWS[row], np.random.default_rng(0)
    params = cases.random_params(rng, net, params_dtype)
    xs = jnp.asarray(rng.normal(size=(T, B, D)), x_dtype)

    @jax.jit
    def run(params: Any, xs: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            return jlstm.step(net, params, state, x)

        start = net.initial_state(params, (B,))
        whole = jlstm.unroll(net, params, xs, time_major=True, return_sequences=True)
        wide = jax.tree.map(lambda a, b: a.astype(b.dtype), start, whole[0])
        return start, jax.lax.scan(step, start, xs)[0], whole, jax.lax.scan(step, wide, xs)

    start, end, whole, stepped = run(params, xs)
    assert dtypes(end) == dtypes(start) and dtypes(stepped) == dtypes(whole)
    equal(stepped, whole, 1e-5)


def test_step_runs_in_every_loop() -> None:
    """Also in `while_loop` and `cond`, with a state that x is wider than."""
    cell = jlstm.SLSTM(cases.H)
    params, xs = cases.seeded(cell, dtype="bfloat16"), jnp.asarray(X.swapaxes(0, 1))
    state = cell.initial_state(params, (B,))

    def body(carry: Any) -> Any:
        t, state = carry
        return t + 1, jlstm.step(cell, params, state, xs[t])[0]

    looped = jax.lax.while_loop(lambda carry: carry[0] < T, body, (0, state))[1]
    chosen = jax.lax.cond(True, lambda s: jlstm.step(cell, params, s, xs[0])[0], lambda s: s, state)
    stepped = jax.lax.fori_loop(1, T, lambda t, s: jlstm.step(cell, params, s, xs[t])[0], chosen)
    assert dtypes(looped) == dtypes(stepped) == dtypes(state)
    equal(looped, stepped, 1e-2)


@pytest.mark.parametrize("cell, gates", [(jlstm.LSTM(4), 4), (jlstm.GRU(4), 3), (jlstm.Zoneout(jlstm.LSTM(4), 0.1), 4)])
def test_a_step_has_one_product_of_x(cell: Any, gates: int) -> None:
    """Two in all, also under a user's own vmap: w_ih is not copied into its gates. A sequence has one per gate."""
    params, x = cases.seeded(cell), X[:, 0]

    def products(f: Any, *args: Any) -> int:
        return str(jax.make_jaxpr(f)(*args)).count("dot_general[")

    def step(x: Any) -> Any:
        return jlstm.step(cell, params, None, x)

    assert products(step, x) == products(jax.vmap(step), x) == 2
    assert products(lambda x: jlstm.unroll(cell, params, x, backend="scan"), X) == gates + 1


@pytest.mark.parametrize("dtype", [">f4", ">f8", "longdouble", "clongdouble"])
@pytest.mark.parametrize("argument", ["inputs", "params", "state"])
def test_arrays_that_jax_would_misread_are_refused(argument: str, dtype: str) -> None:
    """Also after a sound call of the same shapes, when JAX would read the bytes as they lie."""
    given = dict(params=PARAMS, inputs=X, state=jax.tree.map(np.asarray, CELL.initial_state(PARAMS, (B,))))
    jlstm.unroll(CELL, **given)
    given[argument] = jax.tree.map(lambda a: np.asarray(a).astype(dtype), given[argument])
    with pytest.raises(TypeError, match=rf"^unroll: {argument}: expected .*array.*, got .*[^\n]$"):
        jlstm.unroll(CELL, **given)


@pytest.mark.parametrize("dtype", [">i4", ">i8"])
def test_swapped_lengths_are_refused(dtype: str) -> None:
    for call in (lambda n: jlstm.unroll(CELL, PARAMS, X, lengths=n), lambda n: jlstm.sequence_mask(n, T)):
        with pytest.raises(TypeError, match=r"lengths: expected an array, got an array .*swapped bytes\.$"):
            call(np.full(B, 3).astype(dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_a_length_without_limit_acts_as_T(dtype: str) -> None:
    """The largest and the smallest number of each dtype, with and without 64 bits."""
    T = 300  # more than 8 bits hold
    most, least = np.iinfo(dtype).max, np.iinfo(dtype).min
    want = np.broadcast_to(np.arange(T) < min(most, T), (B, T))
    for x64 in (False, True):
        with jax.enable_x64(x64) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(x64):
            for lengths in (np.full(B, most, dtype), *([jnp.full(B, most, dtype)] if x64 or "64" not in dtype else [])):
                np.testing.assert_array_equal(jlstm.sequence_mask(lengths, T), want)
                np.testing.assert_array_equal(
                    jax.jit(lambda n: jlstm.sequence_mask(n, T))(lengths) if x64 else want, want
                )
                state, y = jlstm.unroll(CELL, PARAMS, X, lengths=lengths)
                equal((state, y), jlstm.unroll(CELL, PARAMS, X), 1e-6)
            assert not np.any(jlstm.sequence_mask(np.full(B, least, dtype), T))


@pytest.mark.parametrize("row", covering.thinned(cases.ROWS, 3))
def test_no_steps_without_jit(row: str) -> None:
    """T = 0 is legal under `disable_jit`, too, where JAX's own loop refuses it."""
    net, rng = cases.ROWS[row], np.random.default_rng(0)
    params = cases.random_params(rng, net, "float32")
    x = cases.random_inputs(rng, net, (B, 0), "float32")
    want = jlstm.unroll(net, params, x, return_sequences=True)
    with jax.disable_jit():
        got = jlstm.unroll(net, params, x, return_sequences=True)
        last = jlstm.unroll(net, params, x)[1]
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, want)
    equal(got, want, 1e-6)
    assert all(not np.any(y) or "dense" in row for y in jax.tree.leaves(last))
