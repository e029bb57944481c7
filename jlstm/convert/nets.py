"""The jlstm side of all converters: split nets that other frameworks can express, and join them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jlstm import call_checks, cells, checks
from jlstm.cells.wrapper import innermost
from jlstm.convert.weights import to_numpy
from jlstm.description import show, to_jax
from jlstm.layers import Bidirectional, BidirectionalParams, BidirectionalState, DenseParams, Dropout, Residual, Stack
from jlstm.types import Layer, Params, State

Directions: TypeAlias = Sequence[tuple[Any, Any]]
"""One cell, or a forward and a backward cell, each with its parameters. `split` returns NumPy arrays in them."""

KNOWN = (cells.LSTM, cells.PeepholeLSTM, cells.CoupledLSTM, cells.ProjectedLSTM, cells.GRU)
PARAMS: dict[type, Any] = {cell: getattr(cells, f"{cell.__name__}Params") for cell in KNOWN}
STATES: dict[type, Any] = {cell: getattr(cells, f"{cell.__name__}State", cells.LSTMState) for cell in KNOWN}
_CELLS = {params: cell for cell, params in PARAMS.items()}

# Fields that the parameters determine, that only `init` uses, or that `plain` checks separately.
_SAID = {"hidden_size", "use_bias", "forget_bias", "w_ih_init", "w_hh_init", "param_dtype", "compute_dtype"}
_SAID |= {"learn_initial_state", "activation", "gate_activation", "reset_after"}
_SAID |= {"projected_size", "p_init", "w_hr_init", "update_bias"}


def cell(params: Any, **options: Any) -> Any:
    """Return the cell that fits the parameters. options: fields that the parameters do not determine."""
    *_, H = params.w_hh.shape
    sizes = params.w_hr.shape if isinstance(params, cells.ProjectedLSTMParams) else (H,)
    return _CELLS[type(params)](
        *sizes,
        use_bias=params.b is not None,
        learn_initial_state=params.h0 is not None,
        param_dtype=params.w_ih.dtype,
        **options,
    )


def join(layers: Sequence[Directions], *, merge: str = "concat", dropout: float = 0.0) -> tuple[Any, Params]:
    """Return `(net, params)`: a cell, a Bidirectional, or a Stack of several with dropout between them."""
    nets: list[tuple[Any, Any]] = []
    for layer in layers:
        if nets and dropout:
            nets.append((Dropout(dropout), ()))
        (net, params), *backward = layer
        for other, other_params in backward:
            net = Bidirectional(net, None if other == net else other, merge=merge)  # type: ignore[arg-type]
            params = BidirectionalParams(params, other_params)
        nets.append((net, params))
    if len(nets) == 1:
        return nets[0]
    return Stack(tuple(net for net, _ in nets)), tuple(params for _, params in nets)


def split(
    where: str,
    net: Any,
    params: Params,
    *,
    allowed: Sequence[type] = (cells.LSTM,),
    merges: Sequence[str] = (),
    depth: bool = False,
) -> list[Directions]:
    """Return the layers of a net: the inverse of `join`. Raises ValueError if the framework cannot express the net.

    allowed: the framework's cells.   merges: the merges that a Bidirectional may have; () allows no Bidirectional.
    depth: True allows a Stack.
    """
    match net, params:
        case _ if type(net) in allowed and isinstance(params, PARAMS[type(net)]):
            return [[numpy_cell(where, "params", net, params)]]
        case Bidirectional(merge=merge), BidirectionalParams() if merge in merges:
            sides = [split(where, side, p, allowed=allowed) for side, p in zip(net.directions, params, strict=True)]
            return [[side[0][0] for side in sides]]
        case Stack(layers=layers), tuple() if depth and len(layers) == len(params):
            kept = [(net, p) for net, p in zip(layers, params, strict=True) if not isinstance(net, Dropout)]
            return [layer for net, p in kept for layer in split(where, net, p, allowed=allowed, merges=merges)]
    can = "an " + " or ".join(cell.__name__ for cell in allowed)
    can += ", a Bidirectional of two with merge " + " or ".join(merges) if merges else ""
    can += ", or a Stack of these and Dropout" if depth else ""
    got = show(net) if type(net) not in allowed else f"parameters {type(params).__name__}"
    if isinstance(net, Bidirectional):
        got = f"a Bidirectional with merge {net.merge!r}, and parameters {type(params).__name__}"
    raise checks.problem(where, "net", f"{can}, and its parameters", got)


def numpy_cell(where: str, name: str, net: Any, params: Any) -> tuple[Any, Any]:
    """Check a cell's parameters; return the cell and its parameters as NumPy arrays."""
    named = params._asdict().items()
    arrays = type(params)._make(
        None if leaf is None else to_numpy(where, f"{name}.{field}", leaf) for field, leaf in named
    )
    call_checks.fit(where, net, arrays, arrays.w_ih.shape[0], name=name)
    return net, arrays


def plain(where: str, framework: str, directions: Directions, *, says: Sequence[str] = ()) -> Directions:
    """Return the directions. Raises ValueError for an option that `framework` lacks. says: the options that it has."""
    for net, params in directions:
        for field in dataclasses.fields(net):
            if field.init and field.name not in _SAID and (value := getattr(net, field.name)) != field.default:
                raise checks.problem(where, field.name, f"{field.default!r}, since {framework} has none", show(value))
        if params.h0 is not None:
            hint = "Pass initial_state(params, batch_shape) to the framework's call."
            raise checks.problem(where, "learn_initial_state", f"False, since {framework} has none", True, hint)
        for option, name in {"activation": "tanh", "gate_activation": "sigmoid", "reset_after": True}.items():
            if option not in says and (value := getattr(net, option, name)) != name:
                raise checks.problem(where, option, f"{name!r}, since {framework} has no other", show(value))
    return directions


def leaves(params: Params) -> list[Any]:
    return jax.tree.leaves(params)


def input_size(where: str, net: Any, params: Params) -> int | None:
    """Return D from the parameters; None for a net that takes ids."""
    if net.feature_axes == 0:
        return None
    match net, params:
        case Stack(layers=layers), tuple():
            sizes = (input_size(where, layer, p) for layer, p in zip(layers, params, strict=False))
            return next((size for size in sizes if size), None)
        case Residual(layer=layer), _:
            return input_size(where, layer, params)
        case Bidirectional(forward=forward), BidirectionalParams():
            return input_size(where, forward, params.forward)
        case _ if (kind := PARAMS.get(type(innermost(net)))) and isinstance(params, kind):
            return params.w_ih.shape[0]
        case _, DenseParams():
            return params.w.shape[0]
    return None


# ---- states


def layers_of(where: str, state: State) -> list[list[Any]]:
    """Return the states of all cells as NumPy arrays, layer by layer, forward before backward."""
    if isinstance(state, tuple(STATES.values())):
        return [[type(state)(*(to_numpy(where, f"state.{name}", a) for name, a in state._asdict().items()))]]
    if isinstance(state, BidirectionalState):
        return [[one for side in state for one in states(where, side)]]
    if isinstance(state, tuple):
        return [layer for part in state for layer in layers_of(where, part)]
    raise checks.problem(where, "state", "LSTMState, or a tuple of states", show(state), kind=TypeError)


def states(where: str, state: State) -> list[Any]:
    """Return the states of `layers_of` in one list."""
    return [one for layer in layers_of(where, state) for one in layer]


def fill(where: str, net: Any, found: Iterator[Sequence[Any]]) -> State:
    """Build a state with the net's structure from the cells' states in order: the inverse of `states`."""
    match net:
        case _ if type(innermost(net)) in STATES:
            if (state := next(found, None)) is None:
                raise checks.problem(where, "state", f"a state for each cell of {show(net)}", "fewer")
            kind = STATES[type(innermost(net))]
            if len(state) != len(kind._fields):
                raise checks.problem(
                    where, "state", f"({', '.join(kind._fields)}) for {show(net)}", f"{len(state)} arrays"
                )
            return kind(*(to_jax(np.asarray(a), f"{where}: state") for a in state))
        case Bidirectional():
            return BidirectionalState(*(fill(where, side, found) for side in net.directions))
        case Stack():
            return tuple(fill(where, layer, found) for layer in net.layers)
        case Residual():
            return fill(where, net.layer, found)
        case Layer() if not net.recurrent:
            return ()
    raise checks.problem(where, "net", "LSTMs or GRUs, and layers around them", show(net))


def fill_all(where: str, net: Any, found: Sequence[Sequence[Any]]) -> State:
    """Call `fill` and check that no state is left over. Without a net, assume one LSTM, or one GRU for h alone."""
    rest = iter(found)
    net = (cells.GRU(1) if found and len(found[0]) == 1 else cells.LSTM(1)) if net is None else net
    state = fill(where, net, rest)
    if left := len(list(rest)):
        raise checks.problem(where, "state", f"states for {show(net)}", f"{left} more")
    return state


def one_layer(where: str, found: Sequence[Sequence[Any]]) -> State:
    """Return the state of an LSTM, or of a Bidirectional if there are two."""
    return fill_all(where, None if len(found) < 2 else Bidirectional(cells.LSTM(1)), found)
