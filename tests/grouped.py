"""A cell with all that wrappers have to look out for: groups of several fields, one of them a scale; a state that is a
dict; a second recurrent weight, read inside `update`; an output of another size than the memory."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

import jlstm

H, P = 4, 2


class GroupedParams(NamedTuple):
    """w: `[D, 4, H]`.   u: `[P, 4, H]`.   p: `[H, P]`."""

    w: Any
    u: Any
    p: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Grouped(jlstm.Cell):
    """Exponential gates of a memory (c, n) e^m, after Beck et al. 2024, with a projected output.

    m' = max(f + m, i);  (c', n') = e^(f + m - m') (c, n) + e^(i - m') (tanh g, 1)
    h' = P (σ(o) c' / sqrt(n'² + e^(-2m')))
    """

    recurrent_params: ClassVar[tuple[str, ...]] = ("u", "p")
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c", "n", "m"))

    def init(self, key, input_size):
        shapes = (input_size, 4, H), (P, 4, H), (H, P)
        keys = jax.random.split(key, 3)
        return GroupedParams(*[jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)])

    def output_size(self, input_size):
        return P

    def initial_state(self, params, batch_shape=()):
        return {name: jnp.zeros((*batch_shape, P if name == "h" else H), params.u.dtype) for name in "hcnm"}

    def blend(self, old, new, rate):
        m = jnp.maximum(old["m"], new["m"])
        a, b = rate * jnp.exp(old["m"] - m), (1.0 - rate) * jnp.exp(new["m"] - m)
        c, n = (a * old[name] + b * new[name] for name in "cn")
        return {"h": rate * old["h"] + (1.0 - rate) * new["h"], "c": c, "n": n, "m": m}

    def project(self, params, x, noise=None):
        return jnp.einsum("...d,dgh->...gh", x, params.w)

    def recur(self, params, state, noise=None):
        return jnp.einsum("...p,pgh->...gh", state["h"], params.u)

    def update(self, params, state, z, noise=None):
        i, f, g, o = (jnp.squeeze(a, -2) for a in jnp.split(z, 4, -2))
        m = jnp.maximum(f + state["m"], i)
        keep, write = jnp.exp(f + state["m"] - m), jnp.exp(i - m)
        c, n = keep * state["c"] + write * jnp.tanh(g), keep * state["n"] + write
        h = (jax.nn.sigmoid(o) * c / jnp.sqrt(n**2 + jnp.exp(-2 * m))) @ params.p
        return {"h": h, "c": c, "n": n, "m": m}, h
