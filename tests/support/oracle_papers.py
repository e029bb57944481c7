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
Fields = dict[str, Array]


def functions(net: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """φ and σ"""
    return ACTIVATIONS[net.activation][0], ACTIVATIONS[net.gate_activation][0]


def product(x: Array, w: Array) -> Array:
    """x w `[*B, G, H]`; x `[*B, D]`, w `[D, G, H]`."""
    return np.einsum("...d,dgh->...gh", x, w)


def products(p: Any, h: Array, x: Array) -> Array:
    """W x + U h + b, gates first."""
    z = product(x, p.w_ih) + product(h, p.w_hh)
    return np.moveaxis(z if p.b is None else z + p.b, -2, 0)


def lstm(net: Any, p: Any, state: Any, x: Array, gate_limit: float = np.inf) -> Step:
    """As in `oracle.py`, its c clipped before h is made of it, and its pre-activations."""
    (φ, σ), limit = functions(net), net.cell_clip or np.inf
    h, c = state
    z_i, z_f, z_g, z_o = np.clip(products(p, h, x), -gate_limit, gate_limit)
    c = np.clip(σ(z_f) * c + σ(z_i) * φ(z_g), -limit, limit)
    h = σ(z_o) * φ(c)
    return (h, c), h


def peephole_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Gers & Schmidhuber, "Recurrent Nets that Time and Count" (IJCNN 2000); peepholes i, f, o."""
    φ, σ = functions(net)
    h, c = state
    z_i, z_f, z_g, z_o = products(p, h, x)
    i = σ(z_i + p.p[0] * c)
    f = σ(z_f + p.p[1] * c)
    c = f * c + i * φ(z_g)
    h = σ(z_o + p.p[2] * c) * φ(c)
    return (h, c), h


def coupled_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Greff et al., "LSTM: A Search Space Odyssey" (2017), CIFG: f = 1 - i. Gates i, g, o."""
    φ, σ = functions(net)
    h, c = state
    z_i, z_g, z_o = products(p, h, x)
    f = 1.0 - σ(z_i)
    c = f * c + (1.0 - f) * φ(z_g)
    h = σ(z_o) * φ(c)
    return (h, c), h


def projected_lstm(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Sak, Senior & Beaufays, "Long Short-Term Memory Recurrent ..." (Interspeech 2014); h is `[*B, P]`."""
    φ, σ = functions(net)
    h, c = state
    z_i, z_f, z_g, z_o = products(p, h, x)
    c = σ(z_f) * c + σ(z_i) * φ(z_g)
    h = (σ(z_o) * φ(c)) @ p.w_hr
    return (h, c), h


def gru(net: Any, p: Any, state: Any, x: Array) -> Step:
    """Cho et al., "Learning Phrase Representations ..." (EMNLP 2014), eqs. 5-8; gates r, z, n.

    reset_after: r scales U h with a bias of its own, the fourth row of b; in the paper it scales h.
    """
    φ, σ = functions(net)
    (h,) = state
    b = np.zeros((4, h.shape[-1])) if p.b is None else p.b
    w, u = np.moveaxis(p.w_ih, 1, 0), np.moveaxis(p.w_hh, 1, 0)
    r = σ(x @ w[0] + h @ u[0] + b[0])
    z = σ(x @ w[1] + h @ u[1] + b[1])
    n = φ(x @ w[2] + b[2] + (r * (h @ u[2] + b[3]) if net.reset_after else (r * h) @ u[2]))
    h = z * h + (1.0 - z) * n
    return (h,), h


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
    c = f / (f + i) * state[1] + i / (f + i) * ACTIVATIONS[net.activation][0](z_g)
    return (c, c), c


def squash(x: Array, limit: float) -> Array:
    """Appendix A.1: a logistic sigmoid with range [-limit, limit]; g has 2, h has 1."""
    return 2 * limit / (1 + np.exp(-x)) - limit


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
        c_new[..., cell] = c[..., cell] + y_in * squash(net_c[..., cell], 2)
        h_new[..., cell] = y_out * squash(c_new[..., cell], 1)
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
        g = squash(source @ w_c, 2)
        state, _ = original_lstm(net, p, state, x)
        h = squash(state[1], 1)
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


STEPS: dict[str, Callable[[Any, Any, Any, Array], Step]] = {"LSTM": lstm, "GRU": gru, "SLSTM": slstm}
STEPS |= {"PeepholeLSTM": peephole_lstm, "CoupledLSTM": coupled_lstm, "ProjectedLSTM": projected_lstm}
STEPS |= {"LayerNormLSTM": layer_norm_lstm, "MinLSTM": min_lstm, "OriginalLSTM": original_lstm}


# ---- wrappers of cells: states are dicts by name; a mask is bool and stands for the leading axes of what it meets


def grouped(params: Any, state: Fields, x: Array) -> Fields:
    """One step of `grouped.Grouped`, in plain numbers: the memory is C = c e^m, N = n e^m, and m any scale at all."""
    w, u, p = params
    i, f, g, o = np.moveaxis(product(x, w) + product(state["h"], u), -2, 0)
    C, N = state["c"] * np.exp(state["m"]), state["n"] * np.exp(state["m"])
    f, o = (1 / (1 + np.exp(-a)) for a in (f, o))
    C, N = f * C + np.exp(i) * np.tanh(g), f * N + np.exp(i)
    m = np.log(f * np.exp(state["m"]) + np.exp(i))
    h = (o * C / np.sqrt(N**2 + 1)) @ p
    return {"h": h, "c": C * np.exp(-m), "n": N * np.exp(-m), "m": m}


def zoneout(old: Array, new: Array, rate: float, mask: Any) -> Array:
    """Krueger et al. 2017: the old value where the mask is True; without one the mean, `rate` of the old."""
    if mask is None:
        return rate * old + (1 - rate) * new
    return np.where(np.reshape(mask, mask.shape + (1,) * (old.ndim - mask.ndim)), old, new)


def dropped(a: Array, kept: Array | None, rate: float) -> Array:
    """Inverted dropout: 0 where not kept, the rest divided by its probability. kept None: nothing was drawn."""
    return a if kept is None else np.where(kept, a / (1 - rate), 0.0)
