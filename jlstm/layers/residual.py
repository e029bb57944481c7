"""`Residual`: the input is added to the output."""

from __future__ import annotations

from typing import Any

from jlstm import checks
from jlstm.engine import Run, run_net
from jlstm.records import Net, record
from jlstm.types import Array, Key, Layer, Params, Shape, State


@record
class Residual(Layer):
    """The input added to a layer's output: x + layer(x) (He et al. 2016).

    - `layer`: a net whose output has the size of its input.

    With `return_sequences=False` it adds the input of the step that it returns.
    """

    layer: Net

    def __post_init__(self) -> None:
        if self.layer.feature_axes != 1:
            raise checks.problem("Residual", "layer", "a net that takes floats [*B, T, D]", checks.show(self.layer))

    @property
    def recurrent(self) -> bool:
        return self.layer.recurrent

    def init(self, key: Key, input_size: int | None = None) -> Params:
        self.output_size(input_size)
        return self.layer.init(key, input_size)  # type: ignore[arg-type]

    def output_size(self, input_size: int | None = None) -> int:
        size = checks.size("Residual", "input_size", input_size)
        if self.layer.output_size(size) != size:
            raise checks.problem("Residual", "layer", f"output size {size} = D", self.layer.output_size(size))
        return size

    def initial_state(self, params: Params, batch_shape: Shape = ()) -> State:
        return self.layer.initial_state(params, batch_shape)

    def unroll(self, params: Params, inputs: Array, state: State, run: Run) -> tuple[State, Array, Any]:
        state, y, seen = run_net(self.layer, params, inputs, state, run)
        straight = inputs if run.return_sequences or run.at_last else run.pick(inputs)
        return state, run.blank_invalid(straight + y) if run.return_sequences else straight + y, seen
