"""Write a net as an ONNX model: `to_onnx`. The graph is time-major: runtimes support layout 0 of the operator best."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jlstm import call_checks, checks
from jlstm.cells import LSTM, ClipGates, CoupledLSTM, CoupledLSTMGates, DropConnect, PeepholeLSTM, VariationalDropout
from jlstm.cells.wrapper import Wrapper, innermost
from jlstm.convert import nets
from jlstm.convert.weights import Layout, to_numpy
from jlstm.description import show
from jlstm.layers import Bidirectional, Dense, Dropout, Embed, Residual, Stack
from jlstm.types import Params

LAYOUT, P_LAYOUT = Layout("iofg", transposed=True), Layout("iof", transposed=True, order=("i", "f", "o"))
CELLS = (LSTM, PeepholeLSTM, CoupledLSTM)
OPSET = 22  # the first whose LSTM accepts bfloat16

# The activations that the LSTM operator supports: its name and parameters for each.
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "softsign": ("Softsign", {}),
    "softplus": ("Softplus", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}
MERGES = {"sum": "ReduceSum", "mul": "ReduceProd", "mean": "ReduceMean"}
_DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    **ACTIVATIONS,
    "linear": ("Identity", {}),
    "gelu": ("Gelu", {"approximate": "tanh"}),
}


def uncoupled(w: Any) -> np.ndarray:
    """Return a CoupledLSTM's weight as `[.., 4, H]`.

    f = 1 - σ(z_i) = σ(-z_i), so f's rows are -1 times i's. The result is right also in runtimes without input_forget.
    """
    i, g, o = (w[..., CoupledLSTMGates._fields.index(gate), :] for gate in "igo")
    return np.stack([i, -i, g, o], -2)


def require(where: str) -> Any:
    """Import and return the package onnx."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ImportError(f'{where}: onnx is not installed. Type pip install "jlstm[onnx]".') from None
    return onnx


def to_onnx(net: Any, params: Params, path: str | os.PathLike[str], *, return_sequences: bool = False) -> None:
    """Write a net as an ONNX model.

    - `net`: a net of `Embed`, LSTMs, `Bidirectional`, `Residual`, `Dropout`, `Dense` in `Stack`s. The LSTMs are `LSTM`,
      `PeepholeLSTM` and `CoupledLSTM` (input_forget). `ClipGates` around them becomes clip, as onnxruntime computes it.
      `Dropout`, `DropConnect` and `VariationalDropout` are left out, as in a call without a key.
    - `params`: the parameters of `net`. All must have one dtype, in which everything is computed.
    - `path`: the file to write.
    - `return_sequences`: as in `unroll`; it determines the shape of `outputs`.

    The inputs and outputs of the model:

    - `inputs`: `[batch, time, D]` of the parameters' dtype, or int64 ids `[batch, time]`; any batch and time.
    - `lengths`: int32 `[batch]`; optional.
    - `initial_h.n`, `initial_c.n`: `[directions, batch, H]`, for the LSTM or Bidirectional number n, from 0, in the
      order of the net; optional, by default the net's initial state.
    - `outputs`: `[batch, time, K]` with `return_sequences`, `[batch, K]` without, as from `unroll`.
    - `final_h.n`, `final_c.n`: the state after the last valid step. Feed it back to continue the sequence.

    Raises ImportError without the package `onnx`; ValueError for anything that the operator cannot express: another
    layer or cell, an activation that it lacks, a Bidirectional whose two LSTMs differ in kind, size or clip;
    NotImplementedError for a `Zoneout`, a `cell_clip`, and a `ClipGates` around peepholes.
    """
    onnx = require("to_onnx")
    checks.net("to_onnx", "net", net)
    graph = _Writer(onnx, net, params)
    y = graph.write(net, params, "params", graph.start, return_sequences, at_last=False)
    graph.finish(y, net.output_size(graph.input_size), return_sequences)
    inputs = [graph.info(name, *value) for name, value in graph.inputs.items()]
    outputs = [graph.info(name, *value) for name, value in graph.outputs.items()]
    whole = onnx.helper.make_graph(graph.nodes, "jlstm", inputs, outputs, list(graph.constants.values()))
    model = onnx.helper.make_model(
        whole, producer_name="jlstm", opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, os.fspath(path))


class _Writer:
    """The graph under construction. Every method adds nodes and returns the name of their result."""

    def __init__(self, onnx: Any, net: Any, params: Params) -> None:
        self.onnx, self.nodes, self.constants, self.layers = onnx, [], {}, 0
        self.input_size = nets.input_size("to_onnx", net, params)
        call_checks.fit("to_onnx", net, params, self.input_size)
        leaves = [to_numpy("to_onnx", "params", leaf) for leaf in nets.leaves(params)]
        dtypes = {leaf.dtype for leaf in leaves}
        if len(dtypes) != 1:
            raise checks.problem("to_onnx", "params", "arrays of one dtype", show(sorted(map(str, dtypes))))
        (self.dtype,) = dtypes
        # name -> (shape, dtype)
        feature = [] if self.input_size is None else [self.input_size]
        self.inputs: dict[str, tuple[list[Any], Any]] = {
            "inputs": (["batch", "time", *feature], self.dtype if feature else np.dtype("int64")),
            "lengths": (["batch_or_1"], np.dtype("int32")),
        }
        self.outputs: dict[str, tuple[list[Any], Any]] = {}
        self.constants["lengths"] = onnx.numpy_helper.from_array(np.array([2**31 - 1], np.int32), "lengths")
        self._lengths()
        x = self.node("Transpose", "inputs", perm=[1, 0, 2] if feature else [1, 0])
        steps = self.valid if feature else self.node("Squeeze", self.valid, self.constant([2]))
        self.start = self.node("Where", steps, x, self.constant(0, self.inputs["inputs"][1]))

    def info(self, name: str, shape: list[Any], dtype: Any) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)

    def node(self, op: str, *inputs: str, outputs: int | tuple[str, ...] = 1, **attributes: Any) -> Any:
        names = tuple(f"{op}_{len(self.nodes)}.{n}" for n in range(outputs)) if isinstance(outputs, int) else outputs
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), list(names), name=name, **attributes))
        return names[0] if len(names) == 1 else names

    def constant(self, value: Any, dtype: Any = np.int64, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def _lengths(self) -> None:
        """Set lengths int32 `[batch]` in [0, T], valid bool `[T, batch, 1]`, some bool `[batch, 1]` (lengths > 0)."""
        T, self.batch = (self.node("Shape", "inputs", start=n, end=n + 1) for n in (1, 0))
        T = self.node("Cast", T, to=self.onnx.TensorProto.INT32)
        zero = self.constant([0], np.int32)
        self.lengths = self.node("Expand", self.node("Max", self.node("Min", "lengths", T), zero), self.batch)
        scalars = [self.constant(0, np.int32), self.node("Squeeze", T), self.constant(1, np.int32)]
        self.t = self.node("Unsqueeze", self.node("Range", *scalars), self.constant([1, 2]))
        self.rows = self.node("Unsqueeze", self.lengths, self.constant([1]))
        self.valid = self.node("Less", self.t, self.rows)
        self.some = self.node("Greater", self.rows, zero)

    def blank(self, y: str, at_last: bool) -> str:
        """Set y to 0 where there is no valid step, as in `Run.blank_invalid`."""
        return self.node("Where", self.some if at_last else self.valid, y, self.constant(0, self.dtype))

    def last(self, x: str) -> str:
        """Return x at the last valid step, as in `Run.pick`."""
        before = self.node("Sub", self.rows, self.constant([1], np.int32))
        kept = self.node("Where", self.node("Equal", self.t, before), x, self.constant(0, self.dtype))
        return self.node("ReduceSum", kept, self.constant([0]), keepdims=0)

    def write(self, net: Any, params: Params, path: str, x: str, sequences: bool, at_last: bool) -> str:
        """Write the nodes of a net: `[time, batch, K]`, or `[batch, K]` with `at_last` or without `sequences`."""
        match net:
            case _ if type(innermost(net)) in CELLS:
                cells: Any = [nets.numpy_cell("to_onnx", path, innermost(net), params)]
                return self.lstm(cells, _limit(net, path), "concat", x, sequences)
            case Bidirectional() if type(innermost(net.forward)) in CELLS and net.merge != "none":
                sides = [(innermost(side), p) for side, p in zip(net.directions, params, strict=True)]
                cells = [nets.numpy_cell("to_onnx", f"{path}.{n}", *side) for n, side in enumerate(sides)]
                limits = {_limit(side, f"{path}.{n}") for n, side in enumerate(net.directions)}
                if len({(type(cell), cell.hidden_size) for cell, _ in cells}) == len(limits) == 1:
                    return self.lstm(cells, limits.pop(), net.merge, x, sequences)
            case Residual():
                y = self.write(net.layer, params, path, x, sequences, at_last)
                at_last, straight = at_last or not sequences, x if sequences or at_last else self.last(x)
                return self.blank(self.node("Add", straight, y), at_last)
            case Stack():
                last = max((n for n, layer in enumerate(net.layers) if layer.recurrent), default=0)
                for n, (layer, p) in enumerate(zip(net.layers, params, strict=True)):
                    full, behind = sequences or n < last, at_last or (not sequences and n > last)
                    x = self.write(layer, p, f"{path}.{n}", x, full, behind)
                return x
            case Embed() | Dense() | Dropout():
                if isinstance(net, Embed):
                    x = self.embed(net, params, x)
                x = x if sequences or at_last else self.last(x)
                x = self.dense(net, params, x) if isinstance(net, Dense) else x
                return x if isinstance(net, Dropout) else self.blank(x, at_last or not sequences)
        expected = "LSTM, PeepholeLSTM, CoupledLSTM, Bidirectional of two of one kind, size and clip with one output, "
        expected += "Residual, Stack, Dense, Dropout, Embed"
        raise checks.problem("to_onnx", path.replace("params", "net", 1), expected, show(net))

    def embed(self, net: Embed, params: Any, ids: str) -> str:
        """Write an `Embed`. Ids out of range give NaN as in jlstm; Gather would count negative ones from the end."""
        inside = self.node("Less", ids, self.constant(net.vocabulary))
        inside = self.node("And", inside, self.node("GreaterOrEqual", ids, self.constant(0)))
        rows = self.node("Where", inside, ids, self.constant(0))
        rows = self.node("Gather", self.constant(params.w, self.dtype), rows)
        return self.node(
            "Where", self.node("Unsqueeze", inside, self.constant([2])), rows, self.constant(np.nan, self.dtype)
        )

    def dense(self, net: Any, params: Any, x: str) -> str:
        checks.choice("to_onnx", "activation", net.activation, tuple(_DENSE))
        y = self.node("MatMul", x, self.constant(params.w, self.dtype))
        y = y if params.b is None else self.node("Add", y, self.constant(params.b, self.dtype))
        op, attributes = _DENSE[net.activation]
        return self.node(op, y, **attributes)

    def lstm(self, cells: nets.Directions, limit: float | None, merge: str, x: str, sequences: bool) -> str:
        """Write one LSTM node of one or two directions. limit: the clip of its gates' inputs."""
        n, ways, H = self.layers, len(cells), cells[0][0].hidden_size
        self.layers += 1
        one_gate = isinstance(cells[0][0], CoupledLSTM)

        def theirs(w: Any) -> np.ndarray:
            return LAYOUT.theirs(uncoupled(w) if one_gate else w)

        arrays = {"W": [theirs(p.w_ih) for _, p in cells], "R": [theirs(p.w_hh) for _, p in cells]}
        if any(p.b is not None for _, p in cells):
            biases = [np.zeros(p.w_ih.shape[1:], self.dtype) if p.b is None else p.b for _, p in cells]
            arrays["B"] = [np.concatenate([theirs(b), np.zeros(4 * H, self.dtype)]) for b in biases]
        if isinstance(cells[0][0], PeepholeLSTM):
            arrays["P"] = [P_LAYOUT.theirs(p.p) for _, p in cells]
        given = {key: self.constant(np.stack(a), self.dtype, f"{key}.{n}") for key, a in arrays.items()}
        shape = self.node("Concat", self.constant([ways]), self.batch, self.constant([H]), axis=0)
        start = []
        for key, vectors in {"h": [p.h0 for _, p in cells], "c": [p.c0 for _, p in cells]}.items():
            name = f"initial_{key}.{n}"
            rows = [np.zeros(H, self.dtype) if v is None else v for v in vectors]
            self.constant(np.stack(rows)[:, None], self.dtype, name)
            self.inputs[name] = ([ways, "batch_or_1", H], self.dtype)
            self.outputs[f"final_{key}.{n}"] = ([ways, "batch", H], self.dtype)
            start.append(self.node("Expand", name, shape))
        options = self.activations([cell for cell, _ in cells]) | ({"input_forget": 1} if one_gate else {})
        options |= {} if limit is None else {"clip": limit}
        Y, *end = self.node(
            "LSTM",
            x,
            *(given.get(key, "") for key in "WRB"),
            self.lengths,
            *start,
            *([given["P"]] if "P" in given else []),
            outputs=3,
            hidden_size=H,
            direction=_WAYS[ways],
            **options,
        )
        # The operator returns state 0 for a row without a step.
        end = [self.node("Where", self.some, a, b) for a, b in zip(end, start, strict=True)]
        for key, value in zip("hc", end, strict=True):
            self.node("Identity", value, outputs=(f"final_{key}.{n}",))
        axis = 1 if sequences else 0
        y = Y if sequences else self.blank(end[0], at_last=True)
        if ways == 1:
            return self.node("Squeeze", y, self.constant([axis]))
        if merge != "concat":
            return self.node(MERGES[merge], y, self.constant([axis]), keepdims=0)
        y = self.node("Transpose", y, perm=[0, 2, 1, 3] if sequences else [1, 0, 2])
        return self.node("Reshape", y, self.constant([0, 0, 2 * H] if sequences else [0, 2 * H]))

    def activations(self, cells: list[Any]) -> dict[str, Any]:
        """Return the attributes that name the activations: f for the gates, g for the candidate, h for the cell."""
        names = [name for cell in cells for name in (cell.gate_activation, cell.activation, cell.activation)]
        found = [ACTIVATIONS[checks.choice("to_onnx", "activation", name, tuple(ACTIVATIONS))] for name in names]
        attributes: dict[str, Any] = {"activations": [op for op, _ in found]}
        for key in ("alpha", "beta"):
            if values := [parameters[key] for _, parameters in found if key in parameters]:
                attributes[f"activation_{key}"] = values
        return attributes

    def finish(self, y: str, size: int, sequences: bool) -> None:
        if sequences:
            self.node("Transpose", y, perm=[1, 0, 2], outputs=("outputs",))
        else:
            self.node("Identity", y, outputs=("outputs",))
        time = ["time"] if sequences else []
        self.outputs = {"outputs": (["batch", *time, size], self.dtype), **self.outputs}


def _limit(cell: Any, path: str) -> float | None:
    """Return the smallest limit around a cell, which is the effective one; None if there is none."""
    match cell:
        case DropConnect() | VariationalDropout():  # no effect without a key
            return _limit(cell.cell, path)
        case ClipGates() if not isinstance(innermost(cell), PeepholeLSTM):
            return min(cell.limit, _limit(cell.cell, path) or cell.limit)
        case ClipGates():
            expected = "no clip around a PeepholeLSTM, since the operator also clips p c"
        case _ if getattr(cell, "cell_clip", None) is not None:
            expected = "no cell_clip, since the operator does not clip c"
        case Wrapper():
            expected = f"no {type(cell).__name__}, since the operator cannot express its mean of old and new states"
        case _:
            return None
    name = path.replace("params", "net", 1)
    raise checks.problem("to_onnx", name, expected, show(cell), kind=NotImplementedError)


_WAYS = {1: "forward", 2: "bidirectional"}
