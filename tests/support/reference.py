"""All nets of `cases.py` in plain NumPy: loops over steps, without jlstm's engine. The LSTM's is `oracle.lstm`.

Only what is random comes from the nets themselves: the noise of a step is part of what a cell or layer promises.
"""

import functools
from typing import Any

import cases
import jax
import numpy as np
import oracle
import oracle_papers
from grouped import Grouped

import jlstm
from jlstm.cells.wrapper import Wrapper
from jlstm.types import Noise

POINTWISE = (jlstm.Dense, jlstm.Dropout, jlstm.Embed)


def reference(
    net: Any, params: Any, x: Any, *, state: Any = None, key: Any = None, t: int = 0, **options: Any
) -> tuple[Any, Any]:
    """`(final_state, outputs)` of `jlstm.unroll`, batch-major; x, where it is read, holds no NaN.

    options: return_sequences, reverse, lengths, mask and resets.
    """
    steps = Steps(net, x, **options)

    def parts(*nets: Any) -> list[Any]:
        each = enumerate(zip(nets, params, strict=True))
        return [functools.partial(reference, part, p, key=fold(key, n), t=t) for n, (part, p) in each]

    match net:
        case _ if isinstance(net, POINTWISE):
            each = [pointwise(net, params, np.take(x, n, steps.axis), fold(key, t + n)) for n in range(steps.T)]
            return (), steps.outputs(np.stack(each, steps.axis))
        case jlstm.Residual():
            state, y = reference(net.layer, params, x, state=state, key=key, t=t, **options)
            return state, steps.outputs(x) + y
        case jlstm.Bidirectional():
            forward, backward = parts(net.forward, net.backward or net.forward)
            return oracle.bidirectional(forward, backward, x, merge=net.merge, state=state, **options)
        case jlstm.Stack():
            layers, recurrent = parts(*net.layers), [not isinstance(layer, POINTWISE) for layer in net.layers]
            cut = len(layers) if steps.sequence else len(layers) - recurrent[::-1].index(True)
            states, y = oracle.stack(layers[:cut], x, state=state, **options)
            for layer in layers[cut:]:  # behind the last cell, they get one output, of whatever step
                _, y = layer(np.repeat(y[..., None, :], steps.T, -2), **options)
            return (*states, *[()] * len(layers[cut:])), y
        case jlstm.LSTM() if type(net) is jlstm.LSTM and not net.cell_clip:
            names: Any = dict(activation=net.activation, gate_activation=net.gate_activation)
            return oracle.lstm(params, x, state=state, **options, **names)
    state, y = loop(net, params, x, state, steps, key, t)
    return state, steps.outputs(y)


class Steps:
    """Which steps are taken, and where the state begins anew: bool `[*B, T]`."""

    def __init__(self, net: Any, x: np.ndarray, *, return_sequences: bool = False, **masks: Any) -> None:
        given = oracle.Options(**masks)
        shape = x.shape if net.feature_axes == 0 else x.shape[:-1]
        within = np.ones(shape, bool)
        if given.lengths is not None:
            within = np.arange(shape[-1]) < np.asarray(given.lengths)[..., None]
        self.valid = within if given.mask is None else within & given.mask
        self.reset = np.zeros(shape, bool) if given.resets is None else given.resets & within
        self.reverse, self.sequence = given.reverse, return_sequences
        self.axis, self.T = len(shape) - 1, shape[-1]
        self.order = range(self.T)[:: -1 if self.reverse else 1]

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """All steps of y `[*B, T, K]`, or the last one that was taken; 0 where none was."""
        picked = np.zeros((*y.shape[:-2], y.shape[-1]))
        for t in self.order:
            picked = np.where(self.valid[..., t, None], y[..., t, :], picked)
        return np.where(self.valid[..., None], y, 0.0) if self.sequence else picked


def fold(key: Any, n: int) -> Any:
    return None if key is None else jax.random.fold_in(key, n)


def pointwise(layer: Any, params: Any, x: np.ndarray, key: Any) -> np.ndarray:
    """One step of a layer that has no state."""
    match layer:
        case jlstm.Dense():
            return oracle.ACTIVATIONS[layer.activation][0](x @ np.asarray(params.w) + np.asarray(params.b))
        case jlstm.Embed():
            return np.asarray(params.w)[np.clip(x, 0, layer.vocabulary - 1)]
    kept = None if key is None else np.asarray(jax.random.bernoulli(key, 1.0 - layer.rate, x.shape))
    return oracle_papers.dropped(x, kept, layer.rate)


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
        new, y[..., n, :] = step(net, params, state, np.where(valid[..., None], x[..., n, :], 0.0), noise)
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
        case Grouped():
            new = oracle_papers.grouped(params, state, x)
            return new, new["h"]
        case Wrapper():
            return wrapped(net, params, state, x, noise, state)
        case cases.Noisy():
            h = state.h if noise is None else oracle_papers.dropped(state.h, noise.sequence, net.rate)
            (h, c), _ = oracle_papers.lstm(net, params, (h, state.c), x)
            if noise is not None:
                h, c = np.where(noise.step, state.h, h), np.where(noise.step, state.c, c)
            return type(state)(h, c), h
    new, y = oracle_papers.STEPS[type(net).__name__](net, params, state, x)
    return type(state)(*new), y


# ---- wrappers of cells: each is a function of the oracle, with the masks that the wrapper draws


def wrapped(net: Any, params: Any, state: Any, x: np.ndarray, noise: Any, seen: Any) -> tuple[Any, np.ndarray]:
    """`(state, y)` of a wrapper, whose output is its h; its noise is `Noise((own, inner's), (own, inner's))`.

    seen: the state as the gates see it, where h was dropped on its way.
    """
    own, inner = (None, None) if noise is None else (Noise(*part) for part in zip(*noise, strict=True))
    inner = None if inner == Noise() else inner
    match net:
        case jlstm.DropConnect() if own is not None:
            weights = named(params)
            dropped = {n: oracle_papers.dropped(weights[n], kept, net.rate) for n, kept in own.sequence.items()}
            params = rebuilt(params, weights | dropped)
        case jlstm.VariationalDropout() if own is not None:
            key, kept = own.sequence
            if key is not None:
                mask = np.asarray(jax.random.bernoulli(key, 1 - net.input_rate, x.shape))
                x = oracle_papers.dropped(x, mask, net.input_rate)
            h = oracle_papers.dropped(named(seen)["h"], kept, net.recurrent_rate)
            seen = rebuilt(seen, named(seen) | {"h": h})
        case jlstm.ClipGates():
            new, y = oracle_papers.lstm(net.cell, params, seen, x, net.limit)
            return type(state)(*new), y
    if isinstance(net.cell, Wrapper):
        new, _ = wrapped(net.cell, params, state, x, inner, seen)
    else:
        new, _ = step(net.cell, params, seen, x, inner)
    after = zoned(net, named(state), named(new), own) if isinstance(net, jlstm.Zoneout) else named(new)
    return rebuilt(new, after), after["h"]


def zoned(net: Any, old: dict[str, Any], new: dict[str, Any], own: Any) -> dict[str, Any]:
    rates = [(group, net.h_rate if "h" in group else net.c_rate) for group in net.state_groups]
    rates = [(group, rate) for group, rate in rates if rate]
    masks = [None] * len(rates) if own is None else own.step
    fields = [(name, rate, mask) for (group, rate), mask in zip(rates, masks, strict=True) for name in group]
    return new | {name: oracle_papers.zoneout(old[name], new[name], rate, mask) for name, rate, mask in fields}


def named(tree: Any) -> dict[str, np.ndarray]:
    return dict(tree) if isinstance(tree, dict) else tree._asdict()


def rebuilt(like: Any, values: dict[str, np.ndarray]) -> Any:
    return values if isinstance(like, dict) else type(like)(**values)
