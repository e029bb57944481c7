"""What wrappers of cells do, in float64 NumPy, written from the papers. Imports nothing of jlstm or of jax.

States are dicts by name. A mask is bool and stands for the leading axes of what it meets; None: nothing was drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
Fields = dict[str, Array]


def grouped(params: Any, state: Fields, x: Array) -> Fields:
    """One step of `grouped.Grouped`, in plain numbers: the memory is C = c e^m, N = n e^m, and m any scale at all."""
    w, u, p = params
    i, f, g, o = np.moveaxis(np.tensordot(x, w, 1) + np.tensordot(state["h"], u, 1), -2, 0)
    C, N = state["c"] * np.exp(state["m"]), state["n"] * np.exp(state["m"])
    f, o = (1 / (1 + np.exp(-a)) for a in (f, o))
    C, N = f * C + np.exp(i) * np.tanh(g), f * N + np.exp(i)
    m = np.log(f * np.exp(state["m"]) + np.exp(i))
    h = (o * C / np.sqrt(N**2 + 1)) @ p
    return {"h": h, "c": C * np.exp(-m), "n": N * np.exp(-m), "m": m}


def clipped_lstm(params: Any, state: Fields, x: Array, limit: float = np.inf, gate_limit: float = np.inf) -> Fields:
    """One step of the LSTM, its c clipped before h is made of it, and its pre-activations."""
    w, u, b, *_ = params
    z = np.tensordot(x, w, 1) + np.tensordot(state["h"], u, 1) + np.broadcast_to(b, (*x.shape[:-1], *b.shape))
    i, f, g, o = np.moveaxis(np.clip(z, -gate_limit, gate_limit), -2, 0)
    i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
    c = np.clip(f * state["c"] + i * np.tanh(g), -limit, limit)
    return {"h": o * np.tanh(c), "c": c}


def zoneout(old: Fields, new: Fields, rates: dict[str, float], masks: dict[str, Array] | None) -> Fields:
    """Krueger et al. 2017: a field's old value where its mask is True; without masks the mean, `rate` of the old."""
    after = dict(new)
    for name, rate in rates.items():
        if masks is not None:
            mask = masks[name].reshape(masks[name].shape + (1,) * (old[name].ndim - masks[name].ndim))
            after[name] = np.where(mask, old[name], new[name])
        else:
            after[name] = rate * old[name] + (1 - rate) * new[name]
    return after


def dropped(a: Array, kept: Array | None, rate: float) -> Array:
    """Inverted dropout: 0 where not kept, the rest divided by its probability."""
    return a if kept is None else np.where(kept, a / (1 - rate), 0.0)
