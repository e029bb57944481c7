"""One float64 NumPy step of each of these cells, written from the papers; imports nothing of jlstm or of jax.

A step takes the parameters by name, the state by position, x `[*B, D]` and the cell's options; it gives the new state
as a tuple, and the output. Letters: `*B` batch axes · `D` input features · `H` hidden size. Gates i, f, g, o.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from oracle import ACTIVATIONS

Array = np.ndarray
Step = tuple[tuple[Array, ...], Array]


def functions(net: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """φ and σ"""
    return ACTIVATIONS[net.activation][0], ACTIVATIONS[net.gate_activation][0]


def product(x: Array, w: Array) -> Array:
    """x w `[*B, G, H]`; x `[*B, D]`, w `[D, G, H]`."""
    return np.einsum("...d,dgh->...gh", x, w)


def layer_norm_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Ba, Kiros & Hinton, "Layer Normalization" (2016), supplementary material."""
    φ, σ = functions(net)
    h, c = state

    def norm(a: Array, gain: Array, bias: Array) -> Array:
        axes = tuple(range(a.ndim - gain.ndim, a.ndim))
        μ, variance = a.mean(axes, keepdims=True), a.var(axes, keepdims=True)
        return (a - μ) / np.sqrt(variance + net.epsilon) * gain + bias

    z = norm(product(x, p.w_ih), p.gain_ih, p.bias_ih) + norm(product(h, p.w_hh), p.gain_hh, p.bias_hh)
    if p.b is not None:
        z = z + p.b
    z_i, z_f, z_g, z_o = np.moveaxis(z, -2, 0)
    c = σ(z_f) * c + σ(z_i) * φ(z_g)
    h = σ(z_o) * φ(norm(c, p.gain_c, p.bias_c))
    return (h, c), h


def slstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Beck et al., "xLSTM: Extended Long Short-Term Memory" (2024), eq. 8-17. An m of nothing (n = 0) is no bound."""
    φ, σ = functions(net)
    h, c, n, m = state
    K = h.shape[-1] // net.heads
    z = product(x, p.w_ih) + (0.0 if p.b is None else p.b)
    for k in range(net.heads):
        head = slice(k * K, (k + 1) * K)
        z[..., head] += product(h[..., head], p.w_hh[:, k])
    log_i, z_f, z_g, z_o = np.moveaxis(z, -2, 0)
    log_f = -np.logaddexp(0.0, -z_f) if net.forget_gate == "sigmoid" else z_f
    bound = np.where(n == 0.0, log_i, np.maximum(log_f + m, log_i))
    i, f = np.exp(log_i - bound), np.where(n == 0.0, 0.0, np.exp(log_f + m - bound))
    c, n = f * c + i * φ(z_g), f * n + i
    h = σ(z_o) * c / n
    return (h, c, n, bound), h


def min_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Feng et al., "Were RNNs All We Needed?" (2024), section 3.2: the gates divided by their sum."""
    z_i, z_f, z_g = np.moveaxis(product(x, p.w_ih) + (0.0 if p.b is None else p.b), -2, 0)
    i, f = 1 / (1 + np.exp(-z_i)), 1 / (1 + np.exp(-z_f))
    φ = {"linear": lambda x: x}.get(net.activation) or ACTIVATIONS[net.activation][0]
    c = f / (f + i) * state[1] + i / (f + i) * φ(z_g)
    return (c, c), c


def squash_g(x: Array) -> Array:
    """Appendix A.1: a logistic sigmoid with range [-2, 2]."""
    return 4 / (1 + np.exp(-x)) - 2


def squash_h(x: Array) -> Array:
    """Appendix A.1: a logistic sigmoid with range [-1, 1]."""
    return 2 / (1 + np.exp(-x)) - 1


def original_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Hochreiter & Schmidhuber, "Long Short-Term Memory" (Neural Computation 9(8), 1997), section 4."""
    h, c = state
    net_in, net_out = np.moveaxis(product(x, p.w_ih_gates) + product(h, p.w_hh_gates), -2, 0)
    net_c = x @ p.w_ih + h @ p.w_hh
    if p.b is not None:
        net_in, net_out, net_c = net_in + p.b_gates[0], net_out + p.b_gates[1], net_c + p.b
    c_new, h_new = np.zeros_like(c), np.zeros_like(h)
    for cell in range(h.shape[-1]):
        block = cell // net.block_size
        y_in, y_out = (1 / (1 + np.exp(-a[..., block])) for a in (net_in, net_out))
        c_new[..., cell] = c[..., cell] + y_in * squash_g(net_c[..., cell])
        h_new[..., cell] = y_out * squash_h(c_new[..., cell])
    return (h_new, c_new), h_new


def original_lstm_learning_rule(net: Any, p: Any, xs: Array, errors: Array) -> dict[str, Array]:
    """The gradients of `sum(errors * h)` by the paper's learning rule, for one sequence xs `[T, D]`, errors `[T, H]`.

    Appendix A.1, forward in time: each cell carries the derivatives of its state by its own weights and by its input
    gate's, and whatever reaches a net input through the hidden units' last activations is left out.
    """
    (H,), M = p.b.shape, p.b_gates.shape[1]
    state = np.zeros(H), np.zeros(H)
    ds_in, ds_c = np.zeros((H, xs.shape[1] + H + 1)), np.zeros((H, xs.shape[1] + H + 1))  # by cell and source
    d_in, d_out, d_c = np.zeros((M, ds_c.shape[1])), np.zeros((M, ds_c.shape[1])), np.zeros(ds_c.shape)
    w_in, w_out = (np.concatenate([p.w_ih_gates[:, n], p.w_hh_gates[:, n], p.b_gates[n][None]]) for n in (0, 1))
    w_c = np.concatenate([p.w_ih, p.w_hh, p.b[None]])
    for x, error in zip(xs, errors, strict=True):
        source = np.concatenate([x, state[0], [1.0]])  # y^u(t-1)
        y_in, y_out = (1 / (1 + np.exp(-source @ w)) for w in (w_in, w_out))
        g = squash_g(source @ w_c)
        state, _ = original_lstm(net, p, state, x)
        h = squash_h(state[1])
        for cell in range(H):
            j = cell // net.block_size
            ds_in[cell] += g[cell] * y_in[j] * (1 - y_in[j]) * source
            ds_c[cell] += y_in[j] * (2 + g[cell]) * (2 - g[cell]) / 4 * source  # g' = (2 + g)(2 - g) / 4
            e_s = error[cell] * y_out[j] * (1 + h[cell]) * (1 - h[cell]) / 2  # h' = (1 + h)(1 - h) / 2
            d_in[j] += e_s * ds_in[cell]
            d_c[cell] += e_s * ds_c[cell]
            d_out[j] += error[cell] * h[cell] * y_out[j] * (1 - y_out[j]) * source
    rows = np.split(np.stack([d_in, d_out]), [xs.shape[1], -1], axis=2)  # [2, M, D], [2, M, H], [2, M, 1]
    of_gates = dict(zip(("w_ih_gates", "w_hh_gates", "b_gates"), rows, strict=True))
    of_cells = dict(zip(("w_ih", "w_hh", "b"), np.split(d_c, [xs.shape[1], -1], axis=1), strict=True))
    result = {name: np.moveaxis(a, 2, 0) for name, a in of_gates.items()} | {n: a.T for n, a in of_cells.items()}
    return result | {"b_gates": result["b_gates"][0], "b": result["b"][0]}


STEPS: dict[str, Callable[[Any, Any, Any, Array], Step]] = {
    "LayerNormLSTM": layer_norm_lstm,
    "SLSTM": slstm,
    "MinLSTM": min_lstm,
    "OriginalLSTM": original_lstm,
}


def knows(net: Any) -> bool:
    return type(net).__name__ in STEPS


def step(net: Any, params: Any, state: Any, x: Array) -> Step:
    return STEPS[type(net).__name__](net, params, state, x)
