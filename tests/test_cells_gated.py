"""Cells with gates beside the LSTM: other frameworks live, what is compiled, records, files."""

import dataclasses
from typing import Any

import cases
import frameworks
import jax
import jax.numpy as jnp
import numpy as np
import onnx_models
import pytest
from small import B, D, H, T, bitwise, equal, inputs, value
from test_programs import dots_in_loops, scans

import jlstm
from jlstm.initializers import Chrono, Constant, ForgetBias, Normal
from jlstm.layers import BidirectionalParams, BidirectionalState

P = 2
LENGTHS = np.array([0, 3, 7, 5], np.int32)
close = dict(rtol=1e-5, atol=1e-5)


def compiled(f: Any) -> Any:
    return jax.jit(f, compiler_options=cases.quick())


def random(net: Any, seed: int = 0, dtype: str = "float32") -> Any:
    return cases.random_params(np.random.default_rng(seed), net, dtype)


# ---- onnxruntime


def theirs(w: Any) -> Any:
    """Gates i, f, g, o on the last axis but one as ONNX's rows: i, o, f, c."""
    w = np.concatenate([np.asarray(w)[..., n, :] for n in (0, 3, 1, 2)], -1)
    return w.T


def by_onnxruntime(arrays: list[dict[str, Any]], x: Any, state: Any, **attributes: Any) -> dict[str, Any]:
    """Y `[T, ways, B, H]`, Y_h, Y_c `[ways, B, H]` of one LSTM node; arrays: of each direction."""
    given = {name: np.stack([way[name] for way in arrays]) for name in arrays[0]}
    model = onnx_models.node(given, state=True, lengths=True, hidden_size=H, **attributes)
    start = {f"initial_{name}": np.stack([way[n] for way in state]) for n, name in enumerate("hc")}
    return onnx_models.session(model)(X=x, sequence_lens=LENGTHS, **start)


def peephole_arrays(params: Any) -> dict[str, Any]:
    b = np.concatenate([theirs(params.b), np.zeros(4 * H, "float32")])
    return {
        "W": theirs(params.w_ih),
        "R": theirs(params.w_hh),
        "B": b,
        "P": np.concatenate(params.p[np.array([0, 2, 1])]),
    }


def coupled_arrays(params: Any) -> dict[str, Any]:
    """f's rows, which `input_forget` makes no use of, are NaN."""

    def four(w: Any) -> Any:
        i, g, o = (np.asarray(w)[..., n, :] for n in range(3))
        return theirs(np.stack([i, np.full_like(i, np.nan), g, o], -2))

    b = np.concatenate([four(params.b), np.zeros(4 * H, "float32")])
    return {"W": four(params.w_ih), "R": four(params.w_hh), "B": b}


ONNX = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), peephole_arrays, {}),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), coupled_arrays, {"input_forget": 1}),
}


@pytest.mark.parametrize("name", ONNX)
def test_onnxruntime(name: str) -> None:
    """Forward, in reverse, and both: ragged rows, one of them empty, from a random state."""
    frameworks.need("onnx", "onnxruntime")
    cell, arrays, attributes = ONNX[name]
    rng, pair = np.random.default_rng(1), (random(cell, 1), random(cell, 2))
    x = rng.normal(size=(T, B, D)).astype("float32")
    start = [cases.random_state(rng, cell, p, (B,)) for p in pair]
    options = dict(lengths=LENGTHS, return_sequences=True, time_major=True)
    some = LENGTHS > 0  # the operator gives 0 for the state of an empty row
    reverse = (False, True)

    @compiled
    def ours(pair, x, start):
        parts = zip(pair, start, reverse, strict=True)
        ends = [jlstm.unroll(cell, p, x, state=s, reverse=r, **options) for p, s, r in parts]
        state = BidirectionalState(*start)
        return *ends, jlstm.unroll(jlstm.Bidirectional(cell), BidirectionalParams(*pair), x, state=state, **options)

    *each, (_, y_both) = ours(pair, x, start)
    both = by_onnxruntime([*map(arrays, pair)], x, start, direction="bidirectional", **attributes)
    np.testing.assert_allclose(both["Y"].swapaxes(1, 2).reshape(T, B, 2 * H), y_both, **close)
    for n, (end, y) in enumerate(each):
        direction = "reverse" if reverse[n] else "forward"
        alone = by_onnxruntime([arrays(pair[n])], x, start[n : n + 1], direction=direction, **attributes)
        for got, way in ((alone, 0), (both, n)):
            np.testing.assert_allclose(got["Y"][:, way], y, **close)
            for name, want in zip(("Y_h", "Y_c"), end, strict=True):
                np.testing.assert_allclose(got[name][way][some], want[some], **close)
        bitwise(jax.tree.map(lambda a: a[~some], end), jax.tree.map(lambda a: a[~some], start[n]))


# ---- what is compiled

# The matmuls of one step: one for each recurrent weight.
PROGRAMS = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM(H), 1),
    "CoupledLSTM": (jlstm.CoupledLSTM(H), 1),
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
        carries = [eqn.invars[eqn.params["num_consts"] :][: eqn.params["num_carry"]] for eqn in loops]
        carried[backend] = {v.aval.shape for carry in carries for v in carry}
    weights = {getattr(params, name).shape for name in cell.recurrent_params}
    states = {leaf.shape for leaf in cell.initial_state(params, (B,))}
    assert dots["hoisted"] == 2 * recurrent < dots["scan"], dots
    assert carried["hoisted"] == states and weights <= carried["scan"], carried


# ---- records and files

CELLS = {
    "PeepholeLSTM": (jlstm.PeepholeLSTM, (), dict(p_init=Normal(0.1))),
    "CoupledLSTM": (jlstm.CoupledLSTM, (), dict(forget_bias=2.0)),
}


def make(name: str, **options: Any) -> Any:
    cls, sizes, _ = CELLS[name]
    return cls(H, *sizes, **options)


@pytest.mark.parametrize("name", CELLS)
def test_files(name: str, tmp_path: Any) -> None:
    """What was saved is read: every option, in a stack of both directions."""
    cell = make(name, learn_initial_state=True, compute_dtype="bfloat16", **CELLS[name][2])
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
    assert make(name) != make(name, compute_dtype="float64") and make(name) != make(name, **own)
    for option, wrong in dict(
        hidden_size=0, use_bias=1, activation="Tanh", w_hh_init="glorot", param_dtype=int
    ).items():
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: {option}: expected .*, got .*\.$"):
            dataclasses.replace(make(name), **{option: wrong})
    for option in own:
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: {option}: expected .*, got '3'"):
            make(name, **{option: "3"})
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

    @compiled
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

    @compiled
    def both(params, x):
        start = module.initial_state(params, (B,))
        return module.step(params, start, x, **options), jlstm.step(cell, params, None, x)

    equal(*both(params, x), 1e-6)


# ---- the first parameters


QUICK = dict(w_ih_init=Constant(), w_hh_init=Constant())  # random ones take seconds to compile


def test_peepholes_begin_at_0() -> None:
    params = jlstm.PeepholeLSTM(H, forget_bias=ForgetBias(2.0), **QUICK).init(jax.random.key(0), D)
    assert not np.any(params.p) and np.all(params.b[1] == 2.0) and np.sum(params.b) == 2.0 * H


def test_coupled_forget_bias() -> None:
    """f = σ(-z_i) begins where an LSTM's would: i's bias is minus f's, of chrono's pair just its own."""
    key = jax.random.key(0)
    b = jlstm.CoupledLSTM(H, forget_bias=2.0, **QUICK).init(key, D).b
    np.testing.assert_array_equal(b, np.array([[-2.0], [0.0], [0.0]]).repeat(H, 1))
    b, of_lstm = (cell(H, forget_bias=Chrono(20.0), **QUICK).init(key, D).b for cell in (jlstm.CoupledLSTM, jlstm.LSTM))
    np.testing.assert_array_equal(b[0], of_lstm[0])
    assert np.all(b[0] < 0.0) and not np.any(b[1:])
