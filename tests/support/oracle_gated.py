"""Gated cells as one float64 NumPy step each, written from the papers; imports nothing of jlstm or of jax.

A step takes params by name, the state by position, and x `[*B, D]`; it gives the new state as a tuple, h first.
Letters: `*B` batch axes · `D` input features · `H` hidden size. Gates stand in the order i, f, g, o.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from oracle import ACTIVATIONS

Array = np.ndarray


def products(params: Any, h: Array, x: Array) -> list[Array]:
    """W x + U h + b, one array `[*B, H]` a gate."""
    z = np.einsum("...d,dgh->g...h", x, params.w_ih) + np.einsum("...d,dgh->g...h", h, params.w_hh)
    return [z_g if params.b is None else z_g + params.b[n] for n, z_g in enumerate(z)]


def peephole_lstm(params: Any, state: Any, x: Array, *, activation: str, gate_activation: str) -> tuple[Array, Array]:
    """Gers & Schmidhuber, "Recurrent Nets that Time and Count" (IJCNN 2000); peepholes i, f, o."""
    act, gate = ACTIVATIONS[activation][0], ACTIVATIONS[gate_activation][0]
    h, c = state
    z_i, z_f, z_g, z_o = products(params, h, x)
    i = gate(z_i + params.p[0] * c)
    f = gate(z_f + params.p[1] * c)
    c = f * c + i * act(z_g)
    o = gate(z_o + params.p[2] * c)
    return o * act(c), c


def coupled_lstm(params: Any, state: Any, x: Array, *, activation: str, gate_activation: str) -> tuple[Array, Array]:
    """Greff et al., "LSTM: A Search Space Odyssey" (2017), CIFG: f = 1 - i. Gates i, g, o."""
    act, gate = ACTIVATIONS[activation][0], ACTIVATIONS[gate_activation][0]
    h, c = state
    z_i, z_g, z_o = products(params, h, x)
    f = 1.0 - gate(z_i)
    c = f * c + (1.0 - f) * act(z_g)
    return gate(z_o) * act(c), c


def projected_lstm(params: Any, state: Any, x: Array, *, activation: str, gate_activation: str) -> tuple[Array, Array]:
    """Sak, Senior & Beaufays, "Long Short-Term Memory Recurrent ..." (Interspeech 2014); h is `[*B, P]`."""
    act, gate = ACTIVATIONS[activation][0], ACTIVATIONS[gate_activation][0]
    h, c = state
    z_i, z_f, z_g, z_o = products(params, h, x)
    c = gate(z_f) * c + gate(z_i) * act(z_g)
    return (gate(z_o) * act(c)) @ params.w_hr, c


def gru(params: Any, state: Any, x: Array, *, activation: str, gate_activation: str, reset_after: bool) -> tuple[Array]:
    """Cho et al., "Learning Phrase Representations ..." (EMNLP 2014), eqs. 5-8; gates r, z, n.

    reset_after: r scales U h with a bias of its own, the fourth row of b; in the paper it scales h.
    """
    act, gate = ACTIVATIONS[activation][0], ACTIVATIONS[gate_activation][0]
    (h,) = state
    b = np.zeros((4, h.shape[-1])) if params.b is None else params.b
    w, u = np.moveaxis(params.w_ih, 1, 0), np.moveaxis(params.w_hh, 1, 0)
    r = gate(x @ w[0] + h @ u[0] + b[0])
    z = gate(x @ w[1] + h @ u[1] + b[1])
    candidate = act(x @ w[2] + b[2] + (r * (h @ u[2] + b[3]) if reset_after else (r * h) @ u[2]))
    return (z * h + (1.0 - z) * candidate,)


STEPS: dict[str, Callable[..., Any]] = {
    "PeepholeLSTM": peephole_lstm,
    "CoupledLSTM": coupled_lstm,
    "ProjectedLSTM": projected_lstm,
    "GRU": gru,
}


def knows(net: Any) -> bool:
    return type(net).__name__ in STEPS
