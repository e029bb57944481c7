"""ONNX models, live: written by `to_onnx`, run by onnxruntime, differentiated by the ONNX project's own evaluator."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from small import equal

import jlstm
from jlstm import convert

B, T, D, H = 4, 6, 3, 4
RAGGED = np.array([0, 3, 6, 100], np.int32)  # the lengths of B rows
LENGTHS = np.array([5, 1, 3], np.int32)  # of the ragged input that every peer runs on


def write(net: Any, params: Any, *, return_sequences: bool = True) -> Any:
    """The model that `to_onnx` writes."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        convert.to_onnx(net, params, folder + "/net.onnx", return_sequences=return_sequences)
        return onnx.load(folder + "/net.onnx")


def check_written(net: Any, params: Any, inputs: np.ndarray, *, return_sequences: bool = True) -> None:
    """Check that onnxruntime gives our outputs and final state, on RAGGED rows and from a random state."""
    rng, like = np.random.default_rng(1), jax.eval_shape(lambda p: net.initial_state(p, (B,)), params)
    start = jax.tree.map(lambda a: rng.normal(scale=0.5, size=a.shape).astype(a.dtype), like)
    run = session(write(net, params, return_sequences=return_sequences))
    got = run(inputs=inputs, lengths=RAGGED, **convert.state_to_onnx(start))
    state, y = jlstm.unroll(net, params, inputs, state=start, lengths=RAGGED, return_sequences=return_sequences)
    equal((convert.state_from_onnx(got, net), got["outputs"]), (state, y), 1e-5)


def arrays(ways: int = 1, *, bias: bool = True) -> dict[str, np.ndarray]:
    """The weights of one LSTM node as ONNX lays them out."""
    rng = np.random.default_rng(ways)
    shapes = {"W": (ways, 4 * H, D), "R": (ways, 4 * H, H)} | ({"B": (ways, 8 * H)} if bias else {})
    return {name: rng.normal(scale=0.5, size=shape).astype("float32") for name, shape in shapes.items()}


def node(arrays: dict[str, np.ndarray], *, lengths: bool = False, extra: Any = (), **attributes: Any) -> Any:
    """A model of one LSTM node; `arrays` are constants by the name of the operator's input."""
    from onnx import TensorProto, helper, numpy_helper

    attributes = {"hidden_size": H} | attributes
    fed = {"X": (TensorProto.FLOAT, [None] * 3)} | ({"sequence_lens": (TensorProto.INT32, [None])} if lengths else {})
    order = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", *(["P"] if "P" in arrays else []))
    names = [name if name in {*arrays, *fed} else "" for name in order]
    lstm = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], name="encoder/lstm", **attributes)
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in fed.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("Y", "Y_h", "Y_c")]
    constants = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = helper.make_graph([*extra, lstm], "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def session(model: Any) -> Callable[..., dict[str, Any]]:
    """A function of named inputs, by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of inputs that may be left out
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in run.get_outputs()]
    return lambda **feeds: dict(zip(names, run.run(None, feeds), strict=True))


def run(model: Any, x: Any, state: Any, of_y: Any, of_state: Any) -> Any:
    """Outputs by onnxruntime; the gradient by central differences of the ONNX project's own float64 evaluator."""
    end = session(model)(inputs=x, lengths=LENGTHS, **state)
    f, dx = float64_evaluator(model), np.zeros(x.shape)
    for row, length in enumerate(LENGTHS):  # it ignores sequence_lens
        here = {name: a[:, row : row + 1].astype("float64") for name, a in state.items()}
        of = {name.replace("initial", "final"): a[:, row : row + 1] for name, a in of_state.items()}
        of["outputs"] = of_y[row : row + 1, :length]

        def loss(x: Any, here: Any = here, of: Any = of) -> float:
            end = f(inputs=x[None], **here)
            return sum(np.vdot(end[name], weight) for name, weight in of.items())

        at = x[row, :length].astype("float64")
        for index in np.ndindex(length, x.shape[-1]):
            step = np.zeros(at.shape)
            step[index] = 1e-5
            dx[(row, *index)] = (loss(at + step) - loss(at - step)) / 2e-5
    return end.pop("outputs"), end, dx


def float64_evaluator(model: Any) -> Callable[..., dict[str, Any]]:
    """A function of named inputs, by the ONNX project's own evaluator."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    uncouple(wide)
    for array in wide.graph.initializer:
        if array.data_type == onnx.TensorProto.FLOAT:
            value = onnx.numpy_helper.to_array(array).astype("float64")
            array.CopyFrom(onnx.numpy_helper.from_array(value, array.name))
    for value in [*wide.graph.input, *wide.graph.output]:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    evaluator = ReferenceEvaluator(wide)
    return lambda **feeds: dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def uncouple(model: Any) -> None:
    """Give f minus i's rows where a node has input_forget, which the evaluator does not know: 1 - σ(z) = σ(-z)."""
    from onnx import numpy_helper

    nodes = [node for node in model.graph.node if any(a.name == "input_forget" and a.i for a in node.attribute)]
    names = {name for node in nodes for name in node.input[1:4]}
    for array in model.graph.initializer:
        if array.name in names:
            value = numpy_helper.to_array(array)
            gates = value.reshape(value.shape[0], -1, 4, *_rows(value)).copy()  # i, o, f, c
            gates[:, :, 2] = -gates[:, :, 0]
            array.CopyFrom(numpy_helper.from_array(gates.reshape(value.shape), array.name))


def _rows(value: np.ndarray) -> tuple[int, ...]:
    """The shape of one gate in W and R `[ways, 4H, D]`, and in B `[ways, 2 * 4H]`."""
    return (value.shape[1] // 4, value.shape[2]) if value.ndim == 3 else (value.shape[1] // 8,)
