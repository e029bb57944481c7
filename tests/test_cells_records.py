"""Cells with gates beside the LSTM: what is compiled, records, files."""

import dataclasses
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import B, D, H, bitwise, equal, inputs, value
from test_cells_gated import P, random
from test_programs import dots_in_loops, scans

import jlstm
from jlstm.initializers import Normal

# ---- what is compiled

# The matmuls of one step: one for each recurrent weight.
PROGRAMS = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), 1),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), 1),
    "ProjectedLSTM": (jlstm.ProjectedLSTM(H, P), 2),
    "GRU": (jlstm.GRU(H), 1),
    "GRU-before": (jlstm.GRU(H, reset_after=False), 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_weight_gradient_in_the_loop(name: str) -> None:
    """Going back the loop has one matmul for each recurrent weight, and carries states alone; "scan" has more."""
    cell, recurrent = PROGRAMS[name]
    params, x = random(cell), inputs(cell, "float32")
    dots, carried = {}, {}
    for backend in cases.BACKENDS:
        f = jax.grad(value(cell, backend, return_sequences=True))
        dots[backend] = dots_in_loops(jax.jit(f).lower(params, x, None).as_text())
        loops = list(scans(jax.make_jaxpr(f)(params, x, None).jaxpr))
        # What a scan gives is its carry, as one step gives it, or stacked over time.
        given = [pair for eqn in loops for pair in zip(eqn.params["jaxpr"].jaxpr.outvars, eqn.outvars, strict=True)]
        carried[backend] = {one.aval.shape for one, all_steps in given if one.aval.shape == all_steps.aval.shape}
    weights = {getattr(params, name).shape for name in cell.recurrent_params}
    states = {leaf.shape for leaf in cell.initial_state(params, (B,))}
    assert dots["hoisted"] == 2 * recurrent < dots["scan"], dots
    assert carried["hoisted"] == states and weights <= carried["scan"], carried


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
    with pytest.raises(TypeError, match=rf"^{name}.initial_state: params: expected {name}Params, got tuple"):
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


@pytest.mark.parametrize("name", CELLS)
def test_module_functions_are_the_cell(name: str) -> None:
    """`step` of the cell's module, bare, with options, is `jlstm.step`."""
    cell = make(name, activation="softsign", gate_activation="hard_sigmoid", learn_initial_state=True)
    module = __import__(type(cell).__module__, fromlist=["step"])
    params, x = random(cell), np.ones((B, D), "float32")
    options = {field: getattr(cell, field) for field in ("activation", "gate_activation")}

    @jax.jit
    def both(params, x):
        start = module.initial_state(params, (B,))
        return module.step(params, start, x, **options), jlstm.step(cell, params, None, x)

    equal(*both(params, x), 1e-6)


@pytest.mark.parametrize("name", ["PeepholeLSTM", "CoupledLSTM", "ProjectedLSTM"])
def test_h_is_read_from_another_memory(name: str) -> None:
    """For wrappers that change c after `update`: h is that of the new c and of the same z."""
    cell = make(name, activation="sigmoid", gate_activation="tanh")
    params, rng = random(cell), np.random.default_rng(1)
    state = cases.random_state(rng, cell, params, (B,))
    z = cases.random_tree(rng, jax.eval_shape(cell.project, params, jax.ShapeDtypeStruct((B, D), "float32")))
    new, y = cell.read(params, jax.tree.map(jnp.asarray, state), z)
    opened = z.o + params.p[2] * state.c if name == "PeepholeLSTM" else z.o
    want = np.tanh(opened) / (1 + np.exp(-state.c))
    np.testing.assert_allclose(y, want @ params.w_hr if name == "ProjectedLSTM" else want, rtol=1e-5)
    bitwise(new, state._replace(h=y))
