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
    """Ba, Kiros & Hinton, "Layer Normalization" (2016), supplementary material, eq. 15-16 and 20-22."""
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
    """Feng et al., "Were RNNs All We Needed?" (2024), section 3.2.3: the gates divided by their sum."""
    z_i, z_f, z_g = np.moveaxis(product(x, p.w_ih) + (0.0 if p.b is None else p.b), -2, 0)
    i, f = 1 / (1 + np.exp(-z_i)), 1 / (1 + np.exp(-z_f))
    φ = {"linear": lambda x: x}.get(net.activation) or ACTIVATIONS[net.activation][0]
    c = f / (f + i) * state[1] + i / (f + i) * φ(z_g)
    return (c, c), c


STEPS: dict[str, Callable[[Any, Any, Any, Array], Step]] = {
    "LayerNormLSTM": layer_norm_lstm,
    "SLSTM": slstm,
    "MinLSTM": min_lstm,
}


def knows(net: Any) -> bool:
    return type(net).__name__ in STEPS


def step(net: Any, params: Any, state: Any, x: Array) -> Step:
    return STEPS[type(net).__name__](net, params, state, x)
