"""All nets of `cases.py` in plain NumPy: loops over steps, without jlstm's engine. The LSTM's is `oracle.lstm`.

Only what is random comes from the nets themselves: the noise of a step is part of what a cell or layer promises.
"""

from __future__ import annotations

from typing import Any

import cases
import jax
import numpy as np
import oracle
import oracle_gated
import oracle_papers
import oracle_wrappers
import reference_wrappers
from grouped import Grouped

import jlstm

ACTIVATIONS = {"linear": lambda x: x, "tanh": np.tanh}


def reference(
    net: Any,
    params: Any,
    x: Any,
    *,
    state: Any = None,
    return_sequences: bool = False,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reverse: bool = False,
    key: Any = None,
    t: int = 0,
) -> tuple[Any, Any]:
    """`(final_state, outputs)` of `jlstm.unroll`, batch-major; x, where it is read, holds no NaN."""
    masks = dict(lengths=lengths, mask=mask, resets=resets, reverse=reverse)
    same = dict(return_sequences=return_sequences, t=t, **masks)
    steps = Steps(net, x, lengths, mask, resets, reverse)
    match net:
        case cases.Noisy() | cases.Elman() | cases.Counter() | Grouped() | jlstm.cells.wrapper.Wrapper():
            state, y = loop(net, params, x, state, steps, key, t)
            return state, y if return_sequences else steps.pick(y)
        case _ if oracle_papers.knows(net) or oracle_gated.knows(net) or getattr(net, "cell_clip", None):
            state, y = loop(net, params, x, state, steps, key, t)
            return state, y if return_sequences else steps.pick(y)
        case jlstm.LSTM():
            names = dict(activation=net.activation, gate_activation=net.gate_activation)
            return oracle.lstm(params, x, state=state, return_sequences=return_sequences, **masks, **names)
        case jlstm.Residual():
            state, y = reference(net.layer, params, x, state=state, key=key, **same)
            return state, steps.blank(x) + y if return_sequences else steps.pick(x) + y
        case jlstm.Bidirectional():
            directions = zip(
                (0, 1), (net.forward, net.backward or net.forward), params, state or (None, None), strict=True
            )
            (s_f, y_f), (s_b, y_b) = (
                reference(part, p, x, state=s, key=fold(key, n), **same | {"reverse": reverse != bool(n)})
                for n, part, p, s in directions
            )
            return (s_f, s_b), merge(net.merge, y_f, y_b)
        case jlstm.Stack():
            last = max(n for n, layer in enumerate(net.layers) if not isinstance(layer, POINTWISE))
            states = []
            for n, layer in enumerate(net.layers):
                if isinstance(layer, POINTWISE):
                    x = pointwise(layer, params[n], x, steps, fold(key, n), t, return_sequences or n < last)
                    states.append(())
                else:
                    here = same | {"return_sequences": return_sequences or n < last}
                    start = None if state is None else state[n]
                    s, x = reference(layer, params[n], x, state=start, key=fold(key, n), **here)
                    states.append(s)
            return tuple(states), x
    raise NotImplementedError(net)


class Steps:
    """Which steps are taken, and where the state begins anew: bool `[*B, T]`."""

    def __init__(self, net: Any, x: np.ndarray, lengths: Any, mask: Any, resets: Any, reverse: bool) -> None:
        shape = x.shape if net.feature_axes == 0 else x.shape[:-1]
        within = np.ones(shape, bool)
        if lengths is not None:
            within = np.arange(shape[-1]) < np.asarray(lengths)[..., None]
        self.valid = within if mask is None else within & mask
        self.reset = np.zeros(shape, bool) if resets is None else resets & within
        self.reverse = reverse
        self.order = range(shape[-1])[:: -1 if reverse else 1]

    def blank(self, y: np.ndarray) -> np.ndarray:
        return np.where(self.valid[..., None], y, 0.0)

    def pick(self, y: np.ndarray) -> np.ndarray:
        """The last step that was taken, 0 where none was."""
        picked = np.zeros((*y.shape[:-2], y.shape[-1]))
        for t in self.order:
            picked = np.where(self.valid[..., t, None], y[..., t, :], picked)
        return picked


def fold(key: Any, n: int) -> Any:
    return None if key is None else jax.random.fold_in(key, n)


def merge(name: str, forward: np.ndarray, backward: np.ndarray) -> Any:
    return {
        "concat": lambda: np.concatenate([forward, backward], -1),
        "sum": lambda: forward + backward,
        "mul": lambda: forward * backward,
        "mean": lambda: (forward + backward) / 2,
        "none": lambda: (forward, backward),
    }[name]()


POINTWISE = (jlstm.Dense, jlstm.Dropout, jlstm.Embed)


def pointwise(layer: Any, params: Any, x: np.ndarray, steps: Steps, key: Any, t: int, sequence: bool) -> np.ndarray:
    """`[*B, T, K]`; without `sequence`, x is of the last step alone, and what is random that step's: `[*B, K]`."""

    def apply(x: np.ndarray, t: int) -> np.ndarray:
        match layer:
            case jlstm.Dense():
                return ACTIVATIONS[layer.activation](x @ np.asarray(params.w) + np.asarray(params.b))
            case jlstm.Embed():
                return np.asarray(params.w)[np.clip(x, 0, layer.vocabulary - 1)]
            case _ if key is None:
                return x
        keep = jax.random.bernoulli(jax.random.fold_in(key, t), 1.0 - layer.rate, x.shape)
        return np.where(np.asarray(keep), x / (1.0 - layer.rate), 0.0)

    axis = steps.valid.ndim - 1
    each = [apply(x if not sequence else np.take(x, n, axis), t + n) for n in range(steps.valid.shape[-1])]
    y = np.stack(each, axis)
    return steps.blank(y) if sequence else steps.pick(y)


def loop(net: Any, params: Any, x: np.ndarray, state: Any, steps: Steps, key: Any, t: int) -> tuple[Any, np.ndarray]:
    """A cell, step by step: `(final_state, outputs [*B, T, K])`."""
    batch, T = x.shape[:-2], x.shape[-2]
    params = jax.tree.map(np.asarray, params)
    origin = jax.tree.map(np.asarray, net.initial_state(params, batch))
    state = origin if state is None else jax.tree.map(np.asarray, state)
    y = np.zeros((*batch, T, net.output_size(x.shape[-1])))

    def where(condition: np.ndarray, new: Any, old: Any) -> Any:
        def leaf(new: np.ndarray, old: np.ndarray) -> np.ndarray:
            return np.where(condition.reshape(condition.shape + (1,) * (new.ndim - condition.ndim)), new, old)

        return jax.tree.map(leaf, new, old)

    for n in steps.order:
        reset, valid = steps.reset[..., n], steps.valid[..., n]
        if not steps.reverse:
            state = where(reset, origin, state)
        noise = None if key is None else net.noise(key, params, batch, t + n)
        new, y_n = step(net, params, state, np.where(valid[..., None], x[..., n, :], 0.0), noise)
        y[..., n, :] = where(valid, y_n, np.zeros_like(y_n))
        state = where(valid, new, state)
        if steps.reverse:
            state = where(reset, origin, state)
    return state, y


def step(net: Any, params: Any, state: Any, x: np.ndarray, noise: Any) -> tuple[Any, np.ndarray]:
    match net:
        case cases.Elman():
            w, u, b, v = params
            h = np.tanh(x @ w + state @ u + b)
            return h, h @ v
        case cases.Counter():
            h = np.tanh(x @ params["w"] + state.h @ params["u"]) / (1 + state.n[..., None])
            return cases.CounterState(h, state.n + 1), h
        case jlstm.LSTM() if net.cell_clip:
            return reference_wrappers.clipped(params, state, x, limit=net.cell_clip)
        case _ if oracle_papers.knows(net):
            new, y = oracle_papers.step(net, params, state, x)
            return type(state)(*new), y
        case Grouped():
            new = oracle_wrappers.grouped(params, state, x)
            return new, new["h"]
        case jlstm.cells.wrapper.Wrapper():
            return reference_wrappers.step(step, net, params, state, x, noise)
        case _ if oracle_gated.knows(net):
            wanted = ("activation", "gate_activation", "reset_after")
            names = {name: getattr(net, name) for name in wanted if hasattr(net, name)}
            new = oracle_gated.STEPS[type(net).__name__](params, state, x, **names)
            return type(state)(*new), new[0]
    h = state.h if noise is None else np.where(noise.sequence, state.h / (1 - net.rate), 0.0)
    # One step of the oracle, from the dropped h and the whole c.
    (h, c), _ = oracle.lstm(params, x[..., None, :], state=(h, state.c))
    if noise is not None:
        h, c = np.where(noise.step, state.h, h), np.where(noise.step, state.c, c)
    return jlstm.LSTMState(h, c), h
