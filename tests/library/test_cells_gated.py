"""Cells with gates beside the LSTM, and other frameworks live; what `init` makes of a bias."""

from typing import Any

import cases
import frameworks
import jax
import jax.numpy as jnp
import numpy as np
import onnx_models
import pytest
from cases import seeded as random
from small import B, D, H, T, bitwise, equal

import jlstm
from jlstm.cells import GRUState
from jlstm.initializers import Chrono, Constant, ForgetBias
from jlstm.layers import BidirectionalParams, BidirectionalState

P = 2
LENGTHS = np.array([0, 3, 7, 5], np.int32)
close = dict(rtol=1e-5, atol=1e-5)


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

    @jax.jit
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


# ---- torch


def torch_rows(w: Any) -> Any:
    """Gates on the last axis but one as torch's rows, in the same order."""
    return np.ascontiguousarray(np.asarray(w).reshape(*np.shape(w)[:-2], -1).T)


def torch_gradients(module: Any, weights: dict[str, Any], x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    """`(y, final state, gradients by name)` of torch's module over x `[T, B, D]`; weighted by of_y, of_state."""
    import torch

    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in weights.items()})
    x, start = (
        torch.tensor(x, requires_grad=True),
        [torch.tensor(np.asarray(a)[None], requires_grad=True) for a in state],
    )
    y, end = module(x, tuple(start) if len(start) > 1 else start[0])
    end = end if len(start) > 1 else (end,)
    loss = (y * torch.tensor(of_y)).sum() + sum(
        (a[0] * torch.tensor(b)).sum() for a, b in zip(end, of_state, strict=True)
    )
    loss.backward()
    grads = {name: p.grad for name, p in module.named_parameters()} | {"x": x.grad}
    grads |= {f"{'hc'[n]}0": a.grad[0] for n, a in enumerate(start)}
    return y.detach().numpy(), [a[0].detach().numpy() for a in end], {name: g.numpy() for name, g in grads.items()}


def projected_torch(params: Any) -> dict[str, Any]:
    weights = {"weight_ih_l0": torch_rows(params.w_ih), "weight_hh_l0": torch_rows(params.w_hh)}
    b = torch_rows(params.b)
    return weights | {"weight_hr_l0": params.w_hr.T, "bias_ih_l0": b, "bias_hh_l0": np.zeros_like(b)}


def gru_torch(params: Any) -> dict[str, Any]:
    """The second bias has d_n, and 0 where the two add."""
    b = np.asarray(params.b)
    weights = {"weight_ih_l0": torch_rows(params.w_ih), "weight_hh_l0": torch_rows(params.w_hh)}
    return weights | {"bias_ih_l0": b[:3].ravel(), "bias_hh_l0": np.concatenate([0 * b[:2].ravel(), b[3]])}


TORCH = {
    "ProjectedLSTM": (
        jlstm.ProjectedLSTM(H, P, learn_initial_state=True),
        projected_torch,
        lambda nn: nn.LSTM(D, H, proj_size=P),
    ),
    "GRU": (jlstm.GRU(H, learn_initial_state=True), gru_torch, lambda nn: nn.GRU(D, H)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says which of its kernels runs
@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str) -> None:
    """Outputs, the final state, and the gradients of everything: of the learned initial state too, which is torch's."""
    frameworks.need("torch")
    import torch

    cell, rows, module = TORCH[name]
    params, rng = random(cell), np.random.default_rng(1)
    x, of_y = (rng.normal(size=(T, B, size)).astype("float32") for size in (D, cell.output_size(D)))
    state = [np.asarray(leaf) for leaf in cell.initial_state(params, (B,))]
    of_state = [rng.normal(size=leaf.shape).astype("float32") for leaf in state]
    y, end, want = torch_gradients(module(torch.nn), rows(params), x, state, of_y, of_state)

    @jax.jit
    def ours(params, x):
        def loss(params, x):
            end, y = jlstm.unroll(cell, params, x, return_sequences=True, time_major=True)
            return sum(map(jnp.vdot, (y, *end), (of_y, *of_state))), (end, y)

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    (grads, dx), (our_end, our_y) = ours(params, x)
    equal((our_y, list(our_end), dx), (y, end, want["x"]), 1e-5)
    for key in [key for key in want if key in ("h0", "c0")]:
        np.testing.assert_allclose(getattr(grads, key), want[key].sum(0), **close)
    ones = rows(jax.tree.map(np.ones_like, params))
    for key, a in rows(grads).items():
        has = np.asarray(ones[key]) != 0.0  # where two biases add, ours is the first
        np.testing.assert_allclose(np.asarray(a)[has], want[key][has], **close)


# ---- Keras


def keras_columns(w: Any) -> Any:
    """Gates r, z, n on the last axis but one as Keras's columns: z, r, n."""
    return np.concatenate([w[..., n, :] for n in (1, 0, 2)], -1)


def gru_keras(params: Any, reset_after: bool) -> list[Any]:
    """kernel, recurrent_kernel, bias; two rows of biases with `reset_after`."""
    w_ih, w_hh, b = (np.asarray(a) for a in params[:3])
    bias = keras_columns(b[:3])
    if reset_after:
        bias = np.stack([bias, keras_columns(np.stack([0 * b[0], 0 * b[1], b[3]]))])
    return [keras_columns(w_ih), keras_columns(w_hh), bias]


@pytest.mark.parametrize("reset_after", [True, False])
def test_keras(reset_after: bool) -> None:
    """Ragged rows, one of them empty, from a random state: outputs, final state, gradients of the weights."""
    frameworks.need("keras")
    import keras

    cell, rng = jlstm.GRU(H, reset_after=reset_after, gate_activation="hard_sigmoid"), np.random.default_rng(1)
    options = dict(return_sequences=True, return_state=True, zero_output_for_mask=True)
    layer = keras.layers.GRU(H, reset_after=reset_after, recurrent_activation="hard_sigmoid", **options)
    with frameworks.settings():
        layer.build((None, T, D))
    params = random(cell)
    x, start, of_y = (rng.normal(size=shape).astype("float32") for shape in ((B, T, D), (B, H), (B, T, H)))
    mask = np.arange(T) < LENGTHS[:, None]
    fixed = [variable.value for variable in layer.non_trainable_variables]

    @jax.jit
    def run(params, weights):
        def ours(params):
            (h,), y = jlstm.unroll(
                cell, params, x, state=GRUState(jnp.asarray(start)), mask=mask, return_sequences=True
            )
            return jnp.vdot(y, of_y), (y, h)

        def theirs(weights):
            (y, h), _ = layer.stateless_call(weights, fixed, x, mask=jnp.asarray(mask), initial_state=[start])
            return jnp.vdot(y, of_y), (y, h)

        return jax.grad(ours, has_aux=True)(params), jax.grad(theirs, has_aux=True)(weights)

    with frameworks.settings():
        (grads, values), (want, their_values) = run(params, [jnp.asarray(a) for a in gru_keras(params, reset_after)])
    equal(values, their_values, 1e-5)
    ones = gru_keras(jax.tree.map(np.ones_like, params), reset_after)
    for got, theirs, one in zip(gru_keras(grads, reset_after), want, ones, strict=True):
        np.testing.assert_allclose(got[one != 0.0], np.asarray(theirs)[one != 0.0], **close)


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


def test_update_bias() -> None:
    """Of z alone; a whole bias has as many rows as there are biases."""
    for cell, rows in ((jlstm.GRU(H, update_bias=2.0, **QUICK), 4), (jlstm.GRU(H, reset_after=False, **QUICK), 3)):
        b = cell.init(jax.random.key(0), D).b
        np.testing.assert_array_equal(b, np.eye(rows)[1][:, None].repeat(H, 1) * cell.update_bias.value)
    with pytest.raises(ValueError, match=r"ForgetBias: shape: expected \[4, H\], .*, got \(3, 5\)"):
        jlstm.GRU(H, reset_after=False, update_bias=ForgetBias(1.0), **QUICK).init(jax.random.key(0), D)
