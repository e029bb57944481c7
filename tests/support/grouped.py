"""Cells to be wrapped, and a small problem for them."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sketches import Sketch

import jlstm

H, P = 4, 2


class GroupedParams(NamedTuple):
    """w: `[D, 4, H]`.   u: `[P, 4, H]`.   p: `[H, P]`."""

    w: Any
    u: Any
    p: Any


@jlstm.record
class Grouped(jlstm.Cell):
    """Exponential gates of a memory (c, n) e^m, after Beck et al. 2024, with a projected output.

    What wrappers have to look out for: a group of several fields, one of them a scale; a state that is a dict; a
    second recurrent weight, read inside `update`; an output of another size than the memory.

    m' = log(σ(f) e^m + e^i);  (c', n') = σ(f) e^(m - m') (c, n) + e^(i - m') (tanh g, 1)
    h' = P (σ(o) c' / sqrt(n'² + e^(-2m')))
    """

    recurrent_params: ClassVar[tuple[str, ...]] = ("u", "p")
    state_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("h",), ("c", "n", "m"))

    def init(self, key, input_size):
        shapes = (input_size, 4, H), (P, 4, H), (H, P)
        return GroupedParams(*map(jax.random.normal, jax.random.split(key, 3), shapes))

    def output_size(self, input_size):
        return P

    def initial_state(self, params, batch_shape=()):
        return {name: jnp.zeros((*batch_shape, P if name == "h" else H), params.u.dtype) for name in "hcnm"}

    def project(self, params, x):
        return jnp.einsum("...d,dgh->...gh", x, params.w)

    def recur(self, params, state):
        return jnp.einsum("...p,pgh->...gh", state["h"], params.u)

    def update(self, params, state, z):
        i, f, g, o = (jnp.squeeze(a, -2) for a in jnp.split(z, 4, -2))
        f = jax.nn.log_sigmoid(f) + state["m"]
        m = jnp.logaddexp(f, i)
        keep, write = jnp.exp(f - m), jnp.exp(i - m)
        c, n = keep * state["c"] + write * jnp.tanh(g), keep * state["n"] + write
        h = (jax.nn.sigmoid(o) * c / jnp.sqrt(n**2 + jnp.exp(-2 * m))) @ params.p
        return {"h": h, "c": c, "n": n, "m": m}, h


class ReadState(NamedTuple):
    h: Any


@jlstm.record
class Read(Sketch):
    """h' = tanh(x W + h U), y = h' V: the output is no part of the state; no memory beside h."""

    recurrent_params: ClassVar = ("u",)
    state_groups: ClassVar = (("h",),)

    def shapes(self, D):
        return {"w": (D, H), "u": (H, H), "v": (H, P)}

    def output_size(self, input_size):
        return P

    def initial_state(self, params, batch_shape=()):
        return ReadState(jnp.zeros((*batch_shape, H), params["u"].dtype))

    def recur(self, params, state):
        return state.h @ params["u"]

    def update(self, params, state, z):
        h = jnp.tanh(z)
        return ReadState(h), h @ params["v"]


def problem(net: Any, batch: tuple[int, ...] = (2,), T: int = 7) -> tuple[Any, jax.Array]:
    """Random parameters, float32, and inputs `[*B, T, 3]`."""
    rng, like = np.random.default_rng(0), jax.eval_shape(lambda key: net.init(key, 3), jax.random.key(0))
    params = jax.tree.map(lambda a: jnp.asarray(0.8 * rng.normal(size=a.shape), "float32"), like)
    return params, jnp.asarray(rng.normal(size=(*batch, T, 3)), "float32")
