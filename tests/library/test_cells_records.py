"""Cells with gates beside the LSTM: what is compiled, records, files."""

import dataclasses
import functools
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import seeded as random
from compiled import dots_in_loops, scans
from small import RAGGED, B, D, H, bitwise, equal, inputs, value

import jlstm
from jlstm.initializers import Normal

P = 2

# ---- what is compiled

# The matmuls of one step: one for each recurrent weight.
PROGRAMS = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), 1),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), 1),
    "ProjectedLSTM": (jlstm.ProjectedLSTM(H, P), 2),
    "GRU": (jlstm.GRU(H), 1),
    "GRU-before": (jlstm.GRU(H, reset_after=False), 2),
}
READING = ("PeepholeLSTM", "ProjectedLSTM", "GRU-before")  # parameters inside of `update`


def gradient(cell: Any, backend: str | None, batch: int = B) -> tuple[Any, tuple[Any, ...]]:
    """(the gradient of everything that an unroll gives, what to call it with)."""
    f = jax.grad(value(cell, backend, return_sequences=True))
    return f, (random(cell), inputs(cell, "float32")[:batch], None)


def carried(f: Any, arguments: tuple[Any, ...]) -> set[tuple[int, ...]]:
    """The shapes that f's loops carry: what a scan gives is its carry, as one step gives it, or stacked over time."""
    loops = list(scans(jax.make_jaxpr(f)(*arguments).jaxpr))
    given = [pair for eqn in loops for pair in zip(eqn.params["jaxpr"].jaxpr.outvars, eqn.outvars, strict=True)]
    return {one.aval.shape for one, all_steps in given if one.aval.shape == all_steps.aval.shape}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_weight_gradient_in_the_loop(name: str, request: pytest.FixtureRequest) -> None:
    """Going back the loop has one matmul for each recurrent weight, and carries states alone; "scan" has more."""
    if name in READING:  # so few parameters that they would be carried
        request.getfixturevalue("nothing_carried")
    cell, recurrent = PROGRAMS[name]
    programs = {backend: gradient(cell, backend) for backend in cases.BACKENDS}
    dots = {backend: dots_in_loops(jax.jit(f).lower(*at).as_text()) for backend, (f, at) in programs.items()}
    assert dots["hoisted"] == 2 * recurrent < dots["scan"], dots
    params = programs["scan"][1][0]
    weights = {getattr(params, name).shape for name in cell.recurrent_params}
    assert carried(*programs["hoisted"]) == {leaf.shape for leaf in cell.initial_state(params, (B,))}
    assert weights <= carried(*programs["scan"])


@pytest.mark.parametrize(
    "cell, batch, names",
    [
        (jlstm.LSTM(H), B, ()),
        (jlstm.PeepholeLSTM(H), B, ("p",)),
        (jlstm.GRU(H, reset_after=False), B, ("w_hh",)),
        (jlstm.GRU(40, reset_after=False), 1, ()),
    ],
    ids=["LSTM", "peepholes", "small", "large"],
)
def test_small_gradients_are_carried(cell: Any, batch: int, names: tuple[str, ...]) -> None:
    """The loop carries the gradients of what `update` reads of the parameters, where that is little; or nothing."""
    f, at = gradient(cell, None, batch)
    want = {leaf.shape for leaf in cell.initial_state(at[0], (batch,))} | {getattr(at[0], name).shape for name in names}
    assert carried(f, at) == want


@pytest.mark.parametrize("name", [*READING, "LayerNormLSTM"])
def test_derivatives_with_nothing_carried(name: str, x64: None, nothing_carried: None) -> None:
    """Of cells that read parameters in `update`: value, gradient and its derivative are those of "scan"."""
    cell = jlstm.LayerNormLSTM(H) if name == "LayerNormLSTM" else PROGRAMS[name][0]
    params, x = random(cell, dtype="float64"), inputs(cell)
    along = jax.tree.map(jnp.cos, params)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(backend: str) -> Any:
        f = value(cell, backend, return_sequences=True, **RAGGED)
        return jax.jvp(jax.value_and_grad(lambda p: f(p, x, None)), (params,), (along,))

    equal(derivatives("hoisted"), derivatives("scan"), 1e-10)


# ---- records and files

CELLS = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM, (), dict(p_init=Normal(0.1))),
    "CoupledLSTM": (jlstm.CoupledLSTM, (), dict(forget_bias=2.0)),
    "ProjectedLSTM": (jlstm.ProjectedLSTM, (P,), dict(projected_size=3, w_hr_init=Normal(0.1))),
    "GRU": (jlstm.GRU, (), dict(reset_after=False, update_bias=1.0)),
}


def make(name: str, **options: Any) -> Any:
    cls, sizes, _ = CELLS[name]
    return cls(H, *sizes, **options)


@pytest.mark.parametrize("name", CELLS)
def test_files(name: str, tmp_path: Any) -> None:
    """What was saved is read: every option, in a stack of both directions."""
    cell = make(name, learn_initial_state=True, compute_dtype="bfloat16")
    cell = dataclasses.replace(cell, **CELLS[name][2])
    net = jlstm.Stack((jlstm.Bidirectional(cell), jlstm.Dense(2)))
    params = random(net)
    jlstm.save(tmp_path / "net", net, params)
    back, its = jlstm.load(tmp_path / "net")
    assert back == net and jax.tree.structure(its) == jax.tree.structure(params)
    bitwise(its, params)


@pytest.mark.parametrize("name", CELLS)
def test_records(name: str) -> None:
    """Equal by value however they were written; every field named is checked; what wrappers ask for is there."""
    cls, _, own = CELLS[name]
    same = [make(name), make(name, activation=jnp.tanh, param_dtype=jnp.float32, use_bias=np.bool_(True))]
    assert same[0] == same[1] and hash(same[0]) == hash(same[1])
    assert make(name) != make(name, compute_dtype="float64") and make(name) != dataclasses.replace(make(name), **own)
    for option, wrong in dict(
        hidden_size=0, use_bias=1, activation="Tanh", w_hh_init="glorot", param_dtype=int
    ).items():
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: {option}: expected .*, got .*\.$"):
            dataclasses.replace(make(name), **{option: wrong})
    for option in own:
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: {option}: expected .*, got '3'"):
            dataclasses.replace(make(name), **{option: "3"})
    params = jax.eval_shape(lambda key: make(name).init(key, D), jax.random.key(0))
    state = jax.eval_shape(make(name).initial_state, params)
    assert set(cls.recurrent_params) <= set(params._fields)
    assert sorted(field for group in cls.state_groups for field in group) == sorted(state._fields)
    with pytest.raises(TypeError, match=rf"^{name}.init: input_size: expected a positive int, got None\."):
        make(name).init(jax.random.key(0), None)
    with pytest.raises(TypeError, match=rf"^{name}\.initial_state: params: expected those of {name}, got tuple\."):
        make(name).initial_state(())


@pytest.mark.parametrize("name", CELLS)
def test_dtypes(name: str) -> None:
    """bfloat16 operands and outputs, the rest float32, parameters' gradients in their own dtype; near to float32."""
    cell, half = make(name), make(name, compute_dtype="bfloat16")
    params, x = random(cell), inputs(cell, "float32")

    @jax.jit
    def run(params, x):
        grads = jax.grad(lambda p: jnp.sum(jlstm.unroll(half, p, x)[1].astype("float32")))(params)
        return jlstm.unroll(half, params, x), jlstm.unroll(cell, params, x), grads

    (end, y), (_, wide), grads = run(params, x)
    assert y.dtype == end.h.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in end[1:])
    np.testing.assert_allclose(y.astype("float32"), wide, atol=2e-2)
    assert jax.tree.map(lambda a: a.dtype, grads) == jax.tree.map(lambda a: a.dtype, params)


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_textbook_step_is_the_lstms(use_bias: bool, x64: None) -> None:
    """`lstm.step`, in plain jnp, for any batch axes; values and gradients."""
    cell = jlstm.LSTM(H, use_bias=use_bias)
    params, x = random(cell, dtype="float64"), inputs(cell)
    for at in (x[0, 0], x[:, 0], x):
        start = jax.tree.map(jnp.cos, cell.initial_state(params, at.shape[:-1]))

        def total(step: Any, params: Any, start: Any = start, x: Any = at) -> Any:
            state, y = step(params, start, x)
            return sum(map(jnp.sum, (y, *state))), (state, y)

        steps = jlstm.cells.lstm.step, functools.partial(jlstm.step, cell)
        both = [jax.jit(jax.value_and_grad(functools.partial(total, step), has_aux=True)) for step in steps]
        got, want = (f(params) for f in both)
        equal(got, want)
