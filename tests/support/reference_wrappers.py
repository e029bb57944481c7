"""Wrappers of cells for `reference.py`: each is a function of the oracle, with the masks that the wrapper draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import oracle_wrappers as oracle

import jlstm
from jlstm.cells.wrapper import Wrapper
from jlstm.types import Noise


def step(
    base: Callable[..., Any], net: Any, params: Any, state: Any, x: np.ndarray, noise: Any, seen: Any = None
) -> tuple[Any, np.ndarray]:
    """`(state, y)` of a wrapper, whose output is its h; its noise is `Noise((own, inner's), (own, inner's))`.

    base: the step of a cell that is no wrapper.   seen: the state as the gates see it, where h was dropped on its way.
    """
    own, inner = (None, None) if noise is None else (Noise(*part) for part in zip(*noise, strict=True))
    inner = None if inner == Noise() else inner
    seen = state if seen is None else seen
    match net:
        case jlstm.DropConnect() if own is not None:
            weights = named(params)
            dropped = {n: oracle.dropped(weights[n], kept, net.rate) for n, kept in own.sequence.items()}
            params = rebuilt(params, weights | dropped)
        case jlstm.VariationalDropout() if own is not None:
            key, kept = own.sequence
            if key is not None:
                mask = np.asarray(jax.random.bernoulli(key, 1 - net.input_rate, x.shape))
                x = oracle.dropped(x, mask, net.input_rate)
            seen = rebuilt(seen, named(seen) | {"h": oracle.dropped(named(seen)["h"], kept, net.recurrent_rate)})
        case jlstm.ClipGates(cell=jlstm.LSTM(cell_clip=limit)):
            return clipped(params, seen, x, limit=limit, gate_limit=net.limit)
    if isinstance(net.cell, Wrapper):
        new, _ = step(base, net.cell, params, state, x, inner, seen)
    else:
        new, _ = base(net.cell, params, seen, x, inner)
    after = named(new)
    if isinstance(net, jlstm.Zoneout):
        after = zoned(net, named(state), after, own)
    return rebuilt(new, after), after["h"]


def zoned(net: Any, old: oracle.Fields, new: oracle.Fields, own: Any) -> oracle.Fields:
    rates = {group: net.h_rate if "h" in group else net.c_rate for group in net.state_groups}
    kept = [group for group, rate in rates.items() if rate]
    masks = None
    if own is not None:
        masks = {name: np.asarray(m) for group, m in zip(kept, own.step, strict=True) for name in group}
    by_name = {name: rates[group] for group in kept for name in group}
    return oracle.zoneout(old, new, by_name, masks)


def clipped(params: Any, state: Any, x: np.ndarray, **limits: float) -> tuple[Any, np.ndarray]:
    new = rebuilt(state, oracle.clipped_lstm(params, named(state), x, **limits))
    return new, new.h


def named(tree: Any) -> dict[str, np.ndarray]:
    return dict(tree) if isinstance(tree, dict) else tree._asdict()


def rebuilt(like: Any, values: dict[str, np.ndarray]) -> Any:
    return values if isinstance(like, dict) else type(like)(**values)
