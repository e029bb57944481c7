"""ONNX: the `LSTM` operator. Gates i, o, f, c (c is our g); `[directions, 4H, D]`; B = [Wb | Rb], summed.

Only reading and writing need the package `onnx`. `to_onnx` is in `onnx_graph.py`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np

from jlstm import checks
from jlstm.cells import ClipGates, CoupledLSTMGates, CoupledLSTMParams, LSTMParams, PeepholeLSTMParams
from jlstm.convert import nets
from jlstm.convert.onnx_graph import ACTIVATIONS, LAYOUT, MERGES, P_LAYOUT, require
from jlstm.convert.weights import Weights, add, to_numpy, to_params
from jlstm.description import show
from jlstm.types import GATES, Merge, Params, State

# Operators allowed between two layers. They only move elements, or do nothing in inference.
_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
# Operators allowed between a constant and an initial state. Zeros stay zeros, and rows stay the same rows.
_SHAPES = {"Identity", "Expand", "Unsqueeze", "Cast", "Slice", "Tile", "Reshape", "Squeeze", "Concat"}


def from_onnx(model: Any, *, prefix: str = "", merge: Merge = "concat", reverse: bool = False) -> tuple[Any, Params]:
    """Return `(net, params)` for the LSTM nodes of an ONNX model, which must form a chain. Several make a `Stack`.

    - `model`: a path, or an `onnx.ModelProto`.
    - `prefix`: the beginning of the nodes' names. Other nodes are ignored, also those before the first LSTM; the inputs
      of the net are the X of that LSTM.
    - `merge`: how the model combines the two directions; the operator itself keeps them apart.
    - `reverse`: True reads nodes that run backward only; call `unroll` with `reverse=True` too.

    The nodes are read as follows:

    - A node with peepholes P other than 0 becomes a `PeepholeLSTM`.
    - A node with input_forget becomes a `CoupledLSTM`.
    - A node with clip is wrapped in `ClipGates(..., clip)`, which computes as onnxruntime does.
    - A node without B has no bias.
    - Constant initial states other than 0 become h0 and c0. An initial state that is an input of the model is the
      `state` of `unroll`.
    - sequence_lens is the `lengths` of `unroll`.
    - Both layouts are read; ours is 1, `[B, T, D]`.

    Raises ImportError without the package `onnx`; ValueError with the node's name for a wrong shape, a node in
    another direction, or another operator between two layers; NotImplementedError for clip or input_forget with
    peepholes, and for activations that an `LSTM` does not have.
    """
    checks.choice("from_onnx", "merge", merge, get_args(Merge))
    graph = _Graph(model)
    named = [node for node in graph.nodes if node.op_type == "LSTM"]
    nodes = [node for node in named if node.name.startswith(prefix)]
    if not nodes:
        found = show([node.name for node in named])
        raise checks.problem("from_onnx", "prefix", f"the beginning of one of {found}", repr(prefix))
    for before, after in itertools.pairwise(nodes):
        graph.check_feeds(before, after, MERGES.get(merge))
    layers = [graph.layer(node, reverse) for node in nodes]
    for node, before, after in zip(nodes[1:], layers, layers[1:], strict=False):
        D = before[0][0].output_size(before[0][1].w_ih.shape[0]) * (len(before) if merge == "concat" else 1)
        if after[0][1].w_ih.shape[0] != D:
            raise checks.problem(
                "from_onnx", f"{node.name}.W", f"D = {D} of the layer before", after[0][1].w_ih.shape[0]
            )
    return nets.join(layers, merge=merge)


class _Graph:
    """The nodes and constants of a model by name."""

    def __init__(self, model: Any) -> None:
        self.onnx = onnx = require("from_onnx")
        graph = (_load(onnx, os.fspath(model)) if isinstance(model, str | os.PathLike) else model).graph
        self.nodes = list(graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.constants = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
        self.inputs = {value.name for value in graph.input}
        for n, node in enumerate(node for node in self.nodes if node.op_type == "LSTM"):
            node.name = node.name or f"LSTM_{n}"

    def attributes(self, node: Any) -> dict[str, Any]:
        def text(value: Any) -> Any:
            return value.decode() if isinstance(value, bytes) else value

        values = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {k: [text(v) for v in value] if isinstance(value, list) else text(value) for k, value in values.items()}

    def constant(self, name: str) -> np.ndarray | None:
        """Return the value of an initializer or of a constant node; None for anything else."""
        if name in self.constants:
            return self.constants[name]
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            return self.onnx.numpy_helper.to_array(self.attributes(maker)["value"])
        if maker is not None and maker.op_type == "ConstantOfShape":
            value = self.attributes(maker).get("value")
            return np.zeros(1, "float32") if value is None else self.onnx.numpy_helper.to_array(value)
        return None

    def check_feeds(self, before: Any, after: Any, merge: str | None) -> None:
        """Check that `after` takes the output of `before`, unchanged on the way."""
        name = after.input[0]
        while name not in before.output[:1]:
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in _MOVES | {merge}:
                got = f"{name}, an input" if maker is None else f"{maker.op_type} {maker.name or name}"
                hint = "Give the prefix of one of them."
                hint = f"Type merge={_merge_of(maker)!r}." if maker is not None and _merge_of(maker) else hint
                raise checks.problem("from_onnx", f"{after.name}.X", f"the output of {before.name}", got, hint)
            name = maker.input[0]

    def layer(self, node: Any, reverse: bool) -> nets.Directions:
        """Return the directions of one node."""
        options = self.attributes(node)
        self._check_options(node, options, reverse)
        ways = 2 if options.get("direction") == "bidirectional" else 1
        names = dict(zip(["W", "R", "B", "lens", "h", "c", "P"], [*node.input[1:], *[""] * 7], strict=False))
        arrays = {}
        for key in [key for key in "WRBP" if names[key] or key in "WR"]:
            if (value := self.constant(names[key])) is None:
                raise checks.problem("from_onnx", f"{node.name}.{key}", "a constant", f"{names[key]}, computed")
            arrays[key] = value
        if self.constant(names["lens"]) is not None and names["lens"] not in self.inputs:
            raise checks.problem("from_onnx", f"{node.name}.sequence_lens", "an input", "a constant")
        found = Weights("from_onnx", {node.name: arrays}, node.name, ".", "[WRBP]")
        R = found.take("R", "[directions, 4H, H]", (ways, None, options.get("hidden_size")))
        H = R.shape[-1]
        found.take("R", "[directions, 4H, H]", (ways, 4 * H, H))
        W = found.take("W", "[directions, 4H, D]", (ways, 4 * H, None))
        B: Any = found.take("B", "[directions, 8H]", (ways, 8 * H)) if "B" in arrays else [None] * ways
        P: Any = found.take("P", "[directions, 3H]", (ways, 3 * H)) if "P" in arrays else None
        P, one_gate = (P if np.any(P) else None), bool(options.get("input_forget"))
        for option in ("input_forget", "clip"):
            if P is not None and options.get(option):
                raise _lacks(node, "P", f"none or 0 with {option}", "peepholes")
        h0, c0 = (self._initial(node, key, names[key], options.get("layout", 0), ways, H) for key in "hc")
        if (h0 is None) != (c0 is None):  # jlstm has both or neither
            h0, c0 = (np.zeros((ways, H), W.dtype) if a is None else a for a in (h0, c0))
        layer = []
        for way, activations in zip(range(ways), _activations(node, options, ways), strict=True):
            leaves = {"w_ih": LAYOUT.ours(W[way]), "w_hh": LAYOUT.ours(R[way])}
            leaves |= {} if B[way] is None else {"b": LAYOUT.ours(add(*np.split(B[way], 2)))}
            leaves = {key: _coupled(leaf) for key, leaf in leaves.items()} if one_gate else leaves
            leaves |= {key: a[way] for key, a in (("h0", h0), ("c0", c0)) if a is not None}
            leaves |= {} if P is None else {"p": P_LAYOUT.ours(P[way])}
            kind = CoupledLSTMParams if one_gate else LSTMParams if P is None else PeepholeLSTMParams
            p = to_params(f"from_onnx: {node.name}", kind, **leaves)
            cell = nets.cell(p, **activations)
            layer.append((ClipGates(cell, _short(options["clip"])) if "clip" in options else cell, p))
        return layer

    def _check_options(self, node: Any, options: dict[str, Any], reverse: bool) -> None:
        if options.get("clip", 1.0) <= 0:
            raise checks.problem("from_onnx", f"{node.name}.clip", "a number > 0", options["clip"])
        direction, wanted = options.get("direction", "forward"), "reverse" if reverse else "forward"
        if direction not in (wanted, "bidirectional") or (reverse and direction != wanted):
            hint = f"Type reverse={not reverse} here" + (", and unroll(..., reverse=True)." if not reverse else ".")
            raise checks.problem("from_onnx", f"{node.name}.direction", repr(wanted), repr(direction), hint)

    def _initial(self, node: Any, key: str, name: str, layout: int, ways: int, H: int) -> np.ndarray | None:
        """Return a constant initial state as `[directions, H]`; None for zeros and for an input of the model."""
        where = f"{node.name}.initial_{key}"
        moved = False
        while name and self.constant(name) is None:
            if name in self.inputs:
                return None
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in _SHAPES:
                got = f"{name}, " + ("not found" if maker is None else f"made by {maker.op_type}")
                raise checks.problem("from_onnx", where, "a constant or an input of the model", got)
            moved = moved or maker.op_type not in ("Identity", "Expand")
            name = maker.input[0]
        value = self.constant(name) if name else None
        if value is None or not np.any(value):
            return None
        value = value.swapaxes(0, 1) if layout and value.ndim == 3 else value
        if moved or value.ndim != 3 or value.shape[::2] != (ways, H) or np.any(value != value[:, :1]):
            expected = f"the same constant [H] = ({H},) for every row of the batch"
            raise checks.problem("from_onnx", where, expected, f"a constant {value.shape}")
        return value[:, 0]


def _load(onnx: Any, path: str) -> Any:
    from google.protobuf.message import DecodeError  # a dependency of onnx

    try:
        return onnx.load(path)
    except DecodeError:
        raise checks.problem("from_onnx", path, "an ONNX model", "another file") from None


def _merge_of(node: Any) -> str | None:
    return next((merge for merge, op in MERGES.items() if op == node.op_type), None)


def _lacks(node: Any, key: str, expected: str, got: Any) -> Exception:
    name = f"{node.name}.{key}"
    return checks.problem("from_onnx", name, f"{expected}, since jlstm has no other", got, kind=NotImplementedError)


def _activations(node: Any, options: dict[str, Any], ways: int) -> Iterator[dict[str, str]]:
    """Yield our names of each direction's activations: f for the gates, g for the candidate, h for the cell."""
    names = options.get("activations") or ["Sigmoid", "Tanh", "Tanh"] * ways
    values = {key: iter(options.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    ours = {(op.lower(), *_rounded(parameters)): name for name, (op, parameters) in ACTIVATIONS.items()}
    defaults = {"hardsigmoid": {"alpha": 0.2, "beta": 0.5}, "elu": {"alpha": 1.0}}
    found = []
    for name in names:
        parameters = {key: next(values[key], v) for key, v in defaults.get(name.lower(), {}).items()}
        found.append(ours.get((name.lower(), *_rounded(parameters))))
        if found[-1] is None:
            known = ", ".join(f"{op} {parameters or ''}".strip() for op, parameters in ACTIVATIONS.values())
            raise _lacks(node, "activations", f"one of {known}", f"{name} {parameters}")
    if len(found) != 3 * ways:
        raise checks.problem("from_onnx", f"{node.name}.activations", f"{3 * ways} names", names)
    for f, g, h in zip(found[::3], found[1::3], found[2::3], strict=True):
        if g != h:
            raise _lacks(node, "activations", "one for candidate and cell", f"{g} and {h}")
        yield {"activation": g, "gate_activation": f}


def _coupled(w: np.ndarray) -> np.ndarray:
    """Return the rows i, g, o of a weight `[.., 4, H]`. With input_forget the operator does not use the row f."""
    return w[..., [GATES.index(gate) for gate in CoupledLSTMGates._fields], :]


def _short(value: float) -> float:
    """Return the shortest decimal of a file's float32: 0.3 for the float32 nearest to it."""
    return float(str(np.float32(value)))


def _rounded(parameters: dict[str, float]) -> list[tuple[str, float]]:
    """Return the parameters rounded to 6 digits, since files hold float32."""
    return [(key, round(float(value), 6)) for key, value in sorted(parameters.items())]


def state_from_onnx(state: Any, net: Any = None, *, layout: int = 0) -> State:
    """Return the state of `net` from `(Y_h, Y_c)` of a node, or from the named arrays of a model of `to_onnx`.

    - `state`: `(Y_h, Y_c)`; or `{"final_h.0": ..., "final_c.0": ..., ...}`; or "initial_...", as in `state_to_onnx`.
      Each array is `[directions, B, H]`, with layout 1 `[B, directions, H]`.
    - `net`: the net that takes the state. With None, it is one LSTM or one Bidirectional.
    - `layout`: the layout of the arrays, 0 or 1.

    >>> h, c = np.zeros((1, 2, 5), "float32"), np.zeros((1, 2, 5), "float32")
    >>> state_from_onnx((h, c)).h.shape
    (2, 5)
    """
    if isinstance(state, Mapping):
        when = "final" if "final_h.0" in state else "initial"
        count = sum(key.startswith(f"{when}_h.") for key in state)
        pairs = [(state[f"{when}_h.{n}"], state[f"{when}_c.{n}"]) for n in range(count)]
    else:
        pairs = [state]
    found: list[Any] = []
    for n, pair in enumerate(pairs):
        h, c = (to_numpy("state_from_onnx", f"{name}[{n}]", a) for name, a in zip(("Y_h", "Y_c"), pair, strict=True))
        h, c = (a.swapaxes(0, 1) if layout else a for a in (h, c))
        found += list(zip(h, c, strict=True))
    return nets.one_layer("state_from_onnx", found) if net is None else nets.fill_all("state_from_onnx", net, found)


def state_to_onnx(state: State) -> dict[str, np.ndarray]:
    """Return the initial states for a model of `to_onnx`: the inverse of `state_from_onnx`.

    - `state`: the state of a net.

    The result is `{"initial_h.0": ..., "initial_c.0": ..., ...}`. Each array is `[directions, B, H]`.
    """
    feeds: dict[str, np.ndarray] = {}
    for n, node in enumerate(nets.layers_of("state_to_onnx", state)):
        for name, arrays in zip("hc", zip(*node, strict=True), strict=True):
            feeds[f"initial_{name}.{n}"] = np.stack(arrays)
    return feeds
