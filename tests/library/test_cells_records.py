"""Cells as records, their dtypes, the parameters that they begin with, and the textbook step."""

import dataclasses
import functools
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import seeded
from small import B, D, H, T, equal, inputs, problem, types

import jlstm
from jlstm.initializers import Chrono, Constant, ForgetBias, Normal

CELLS = {  # with options of its own
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), dict(p_init=Normal(0.1))),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), dict(forget_bias=2.0)),
    "ProjectedLSTM": (jlstm.ProjectedLSTM(H, 2), dict(projected_size=3, w_hr_init=Normal(0.1))),
    "GRU": (jlstm.GRU(H), dict(reset_after=False, update_bias=1.0)),
    "LayerNormLSTM": (jlstm.LayerNormLSTM(H), dict(epsilon=1e-3)),
    "SLSTM": (jlstm.SLSTM(4, heads=2), dict(heads=4, forget_gate="exp")),
    "MinLSTM": (jlstm.MinLSTM(H), dict(learn_initial_state=True)),
    "OriginalLSTM": (jlstm.OriginalLSTM(4, block_size=2), dict(block_size=1, truncated_gradient=True)),
}
SPELLINGS = dict(activation=jnp.tanh, param_dtype=jnp.float32, use_bias=np.bool_(True))
WRONG = dict(hidden_size=0, use_bias=1, activation="Tanh", w_hh_init="glorot", param_dtype=int)
HALF = dict(compute_dtype="bfloat16")


@pytest.mark.parametrize("name", CELLS)
def test_records(name):
    """Equal by value however they were written; every field named is checked; what wrappers ask for is there."""
    cell, own = CELLS[name]
    replace = functools.partial(dataclasses.replace, cell)
    fields = {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}
    spelled = {option: value for option, value in SPELLINGS.items() if fields.get(option) in ("tanh", "float32", True)}
    same = replace(**spelled)
    assert same == cell and hash(same) == hash(cell)
    for changes in (own, HALF, dict(compute_dtype="float64")):
        assert replace(**changes) != cell
    for option, wrong in (dict.fromkeys(own, "3") | WRONG).items():
        if option in fields:
            got = "int64" if wrong is int else re.escape(repr(wrong))
            with pytest.raises((TypeError, ValueError), match=rf"^{name}: {option}: expected .*, got {got}\.$"):
                replace(**{option: wrong})
    params = jax.eval_shape(lambda key: cell.init(key, D), jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    assert set(cell.recurrent_params) <= set(params._fields)
    assert sorted(field for group in cell.state_groups for field in group) == sorted(state._fields)
    with pytest.raises(TypeError, match=rf"^{name}.init: input_size: expected a positive int, got None\."):
        cell.init(jax.random.key(0), None)
    with pytest.raises(TypeError, match=rf"^{name}\.initial_state: params: expected those of {name}, got tuple\."):
        cell.initial_state(())


# ---- dtypes


@pytest.mark.parametrize("name", CELLS)
def test_half_precision(name):
    """bfloat16 operands and outputs, the rest float32, parameters' gradients in their own dtype; near to float32."""
    cell = dataclasses.replace(CELLS[name][0], learn_initial_state=True)
    params, x = problem(cell)

    @jax.jit
    def run(params):
        def loss(params, cell=cell):
            end, y = jlstm.unroll(cell, params, x, return_sequences=True)
            return jnp.sum(y.astype("float32")), (end, y)

        half = functools.partial(loss, cell=dataclasses.replace(cell, **HALF))
        return *jax.grad(half, has_aux=True)(params), loss(params)[1]

    grads, (end, y), (_, wide) = run(params)
    assert y.dtype == end.h.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for field, leaf in end._asdict().items() if field != "h")
    equal(y.astype("float32"), wide, 2e-2, rtol=0)
    assert types(grads) == types(params)


def test_half_precision_over_many_steps():
    """bfloat16 operands and float32 results of all matmuls; within 2e-2 of float32 over T = 200, gradients too."""
    cell, half = jlstm.LSTM(32), jlstm.LSTM(32, **HALF)
    params, x = cell.init(jax.random.key(0), D), inputs(cell, "float32", T=200)
    text = jax.jit(jlstm.unroll).lower(half, params, x).as_text()
    dots = re.findall(r"dot_general.*: \((.*)\) -> (.*)", text)
    assert dots and all(a.count("bf16") == 2 and "f32" in b and "bf16" not in b for a, b in dots), dots

    @functools.partial(jax.jit, static_argnums=0)
    def run(cell):
        def loss(params):
            end, y = jlstm.unroll(cell, params, x, return_sequences=True)
            return jnp.mean(y.astype("float32") ** 2), (end, y)

        return jax.grad(loss, has_aux=True)(params)

    (grads, (end, y)), (want_grads, (_, want)) = run(half), run(cell)
    assert (y.dtype, end.h.dtype, end.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    equal(y.astype("float32"), want, 2e-2, rtol=0)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        assert np.linalg.norm(a - b) <= 2e-2 * np.linalg.norm(b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_of_wrappers_are_the_cells(dtype):
    net = cases.everything(jlstm.LSTM(H, compute_dtype=dtype, cell_clip=0.5))
    params, x = problem(net)
    for key in (None, jax.random.key(3)):
        end, y = jax.eval_shape(lambda key=key: jlstm.unroll(net, params, x, key=key))
        assert (y.dtype, end.h.dtype, end.c.dtype) == (dtype, dtype, "float32")


@pytest.mark.parametrize(
    "wide", ["float32", "bfloat16", *(pytest.param(wide, marks=pytest.mark.slow) for wide in ("float16", "float64"))]
)
def test_mixed_dtypes(x64, wide):
    """Any mix of input, state and parameter dtypes: h and outputs in `result_type(x, params)`, c at least float32.

    `compute_dtype` goes first: another net, though `np.dtype("float64") == None`.
    """
    for param_dtype in ("float32", "bfloat16"):
        cell, x = jlstm.LSTM(H, param_dtype=param_dtype), jnp.ones((2, 3, D), wide)
        params = seeded(cell, dtype=param_dtype)
        compute = jnp.result_type(x, params.w_hh)
        for state in (None, jlstm.LSTMState(jnp.ones((2, H), "float64"), jnp.ones((2, H), "bfloat16"))):
            end, y = jlstm.unroll(cell, params, x, state=state)
            assert (y.dtype, end.h.dtype, end.c.dtype) == (compute, compute, jnp.promote_types(compute, "float32"))
        named = dataclasses.replace(cell, compute_dtype=wide)
        assert jlstm.unroll(named, params, x)[1].dtype == wide and named != cell


LAYERS = jlstm.Stack((jlstm.LSTM(H, **HALF), jlstm.Residual(jlstm.LSTM(H)), jlstm.Dense(2)))
STEPPED = [
    (jlstm.LSTM(H), "float32"),
    (jlstm.LSTM(H, param_dtype="bfloat16"), "bfloat16"),
    (jlstm.LSTM(H, compute_dtype="bfloat16"), "float32"),
    (jlstm.LSTM(H, param_dtype="float16", compute_dtype="float32"), "float32"),
    (LAYERS, "float32"),
]


@pytest.mark.parametrize("net, dtype", STEPPED)
def test_a_scan_of_ones_own_keeps_the_state(net, dtype):
    """`step` gives back the dtypes of `initial_state`, gradients have those of what they are of; nothing is run."""

    def last(params, x):
        state = net.initial_state(params, (B,))
        end, y = jax.lax.scan(lambda state, x: jlstm.step(net, params, state, x), state, x)
        assert types(end) == types(state)
        return jnp.sum(y.astype("float32"))

    params = jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0))
    args = params, jax.ShapeDtypeStruct((T, B, D), dtype)
    assert types(jax.eval_shape(jax.grad(last, (0, 1)), *args)) == types(args)


# ---- the first parameters

QUICK = dict(w_ih_init=Constant(), w_hh_init=Constant())  # random ones take seconds to compile


def first(cell, **options):
    return cell(H, **options, **QUICK).init(jax.random.key(0), D)


def test_peepholes_begin_at_0():
    params = first(jlstm.PeepholeLSTM, forget_bias=ForgetBias(2.0))
    assert not np.any(params.p) and np.all(params.b[1] == 2.0) and np.sum(params.b) == 2.0 * H


def test_coupled_forget_bias():
    """f = σ(-z_i) begins where an LSTM's would: i's bias is minus f's, of chrono's pair just its own."""
    b = first(jlstm.CoupledLSTM, forget_bias=2.0).b
    np.testing.assert_array_equal(b, np.array([[-2.0], [0.0], [0.0]]).repeat(H, 1))
    b, of_lstm = (first(cell, forget_bias=Chrono(20.0)).b for cell in (jlstm.CoupledLSTM, jlstm.LSTM))
    np.testing.assert_array_equal(b[0], of_lstm[0])
    assert np.all(b[0] < 0.0) and not np.any(b[1:])


def test_update_bias():
    """Of z alone; a whole bias has as many rows as there are biases."""
    for reset_after, rows in ((True, 4), (False, 3)):
        b = first(jlstm.GRU, update_bias=2.0, reset_after=reset_after).b
        np.testing.assert_array_equal(b, np.eye(rows)[1][:, None].repeat(H, 1) * 2.0)
    with pytest.raises(ValueError, match=r"ForgetBias: shape: expected \[4, H\], .*, got \(3, 5\)"):
        first(jlstm.GRU, reset_after=False, update_bias=ForgetBias(1.0))


# ---- the textbook step


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_textbook_step_is_the_lstms(use_bias, x64):
    """`lstm.step`, in plain jnp, for any batch axes; values and gradients."""
    cell = jlstm.LSTM(H, use_bias=use_bias)
    params, x = problem(cell, "float64")

    @jax.jit
    def run(params):
        def total(params, step, x):
            start = jax.tree.map(jnp.cos, cell.initial_state(params, x.shape[:-1]))
            state, y = step(params, start, x)
            return sum(map(jnp.sum, (y, *state))), (state, y)

        gradient = jax.value_and_grad(total, has_aux=True)
        steps = jlstm.cells.lstm.step, functools.partial(jlstm.step, cell)
        return [[gradient(params, step, x) for x in (x[0, 0], x[:, 0], x)] for step in steps]

    equal(*run(params))
