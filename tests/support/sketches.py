"""Cells that strain the protocol: a matmul after the gates, one inside update, noise, no recurrence, space."""

import jax
import jax.numpy as jnp

import jlstm
from jlstm.types import Noise

sketch = jlstm.record


class Sketch(jlstm.Cell):
    """h' = tanh(x W + h U), H = 4: each cell below replaces a part. Parameters are a dict of small normal matrices."""

    def shapes(self, D):
        return {"w": (D, 4), "u": (4, 4)}

    def init(self, key, input_size):
        shapes = self.shapes(input_size)
        keys = jax.random.split(key, len(shapes))
        return {name: 0.5 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}

    def output_size(self, input_size):
        return 4

    def initial_state(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, 4), params["w"].dtype)

    def project(self, params, x):
        return x @ params["w"]

    def recur(self, params, h):
        return h @ params["u"]

    def update(self, params, h, z):
        h = jnp.tanh(z)
        return h, h


@sketch
class LSTMP(Sketch):
    """A projection after the gates: h has size P = 2."""

    def shapes(self, D):
        return {"w": (D, 16), "u": (2, 16), "p": (4, 2)}

    def output_size(self, input_size):
        return 2

    def initial_state(self, params, batch_shape=()):
        return {name: jnp.zeros((*batch_shape, size), params["u"].dtype) for name, size in (("h", 2), ("c", 4))}

    def recur(self, params, state):
        return state["h"] @ params["u"]

    def update(self, params, state, z):
        i, f, g, o = jnp.split(z, 4, -1)
        c = jax.nn.sigmoid(f) * state["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)) @ params["p"]
        return {"h": h, "c": c}, h


@sketch
class OldGRU(Sketch):
    """`reset_after=False`: a recurrent matmul inside update."""

    def shapes(self, D):
        return {"w": (D, 12), "u": (4, 8), "v": (4, 4)}

    def project(self, params, x):
        z, r, n = jnp.split(x @ params["w"], 3, -1)
        return (z, r, n)

    def recur(self, params, h):
        z, r = jnp.split(h @ params["u"], 2, -1)
        return (z, r, jnp.zeros_like(r))

    def update(self, params, h, z):
        z, r, n = z
        z = jax.nn.sigmoid(z)
        h = z * h + (1 - z) * jnp.tanh(n + (jax.nn.sigmoid(r) * h) @ params["v"])
        return h, h


@sketch
class Noisy(Sketch):
    """Zoneout (anew at every step) and one mask a sequence on h."""

    def noise(self, key, params, batch_shape, t):
        kept, held = (jax.random.bernoulli(k, 0.5, (*batch_shape, 4)) for k in (key, jax.random.fold_in(key, t)))
        return Noise(sequence=kept, step=held)

    def project(self, params, x, noise):
        return x @ params["w"]

    def recur(self, params, h, noise):
        if noise.sequence is not None:
            h = jnp.where(noise.sequence, h, jnp.zeros_like(h))
        return h @ params["u"]

    def update(self, params, h, z, noise):
        new = jnp.tanh(z)
        if noise.step is not None:
            new = jnp.where(noise.step, h, new)
        return new, new


@sketch
class MinLSTM(Sketch):
    """No recurrence through h: `recur` is None."""

    def shapes(self, D):
        return {"w": (D, 12)}

    def recur(self, params, h):
        return None

    def update(self, params, h, z):
        f, i, g = jnp.split(z, 3, -1)
        f, i = jax.nn.sigmoid(f), jax.nn.sigmoid(i)
        h = (f * h + i * g) / (f + i)
        return h, h


@sketch
class ConvRNN(Sketch):
    """x `[*B, T, S, C]`: two feature axes; space S = 5 is a hyper-parameter."""

    feature_axes = 2

    def shapes(self, D):
        return {"w": (3, D, 4), "u": (3, 4, 4)}

    def initial_state(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, 5, 4), params["u"].dtype)

    def _conv(self, x, w):
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (0, 0)])
        return sum(x[..., k : k + 5, :] @ w[k] for k in range(3))

    def project(self, params, x):
        return self._conv(x, params["w"])

    def recur(self, params, h):
        return self._conv(h, params["u"])
