"""`Bidirectional`: one net from the first step to the last, another from the last to the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlstm import checks
from jlstm.engine import Run, run_net
from jlstm.records import Net, record
from jlstm.types import Array, Cell, Key, Layer, Merge, Params, Shape, State


class BidirectionalParams(NamedTuple):
    """The parameters of the two directions."""

    forward: Params
    backward: Params


class BidirectionalState(NamedTuple):
    """The final states of the two directions; the backward one's is the one after step 0."""

    forward: State
    backward: State


class BidirectionalOutputs(NamedTuple):
    """The outputs of the two directions, with `merge="none"`."""

    forward: Array
    backward: Array


MERGES: dict[Merge, Callable[[Array, Array], Any]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": jnp.add,
    "mul": jnp.multiply,
    "mean": lambda forward, backward: (forward + backward) / 2,
    "none": BidirectionalOutputs,
}


@record
class Bidirectional(Layer):
    """Two directions over the same inputs (Schuster & Paliwal 1997); outputs in input order, merged step by step.

    - `forward`, `backward`: the nets. Without `backward`, `forward` serves both, with parameters of its own for each.
    - `merge`: "concat" (forward first), "sum", "mul", "mean", or "none": `BidirectionalOutputs`.

    With `return_sequences=False` each direction returns the last step that it took: the forward one the last valid
    step, the backward one the first, as in Keras. `step` raises NotImplementedError.
    """

    forward: Net
    backward: Net | None = None
    _: KW_ONLY
    merge: Merge = "concat"

    def __post_init__(self) -> None:
        if self.backward is not None and self.backward.feature_axes != self.forward.feature_axes:
            came = checks.show(self.backward)
            raise checks.problem("Bidirectional", "backward", "a net for forward's kind of input", came)

    @property
    def directions(self) -> tuple[Cell | Layer, Cell | Layer]:
        return self.forward, self.forward if self.backward is None else self.backward

    @property
    def feature_axes(self) -> int:
        return self.forward.feature_axes

    @property
    def recurrent(self) -> bool:
        return any(net.recurrent for net in self.directions)

    def init(self, key: Key, input_size: int | None = None) -> BidirectionalParams:
        checks.key("Bidirectional.init", key)
        if self.merge != "none":
            self.output_size(input_size)
        keys = jax.random.split(key)
        return BidirectionalParams(*[net.init(k, input_size) for net, k in zip(self.directions, keys, strict=True)])  # type: ignore[arg-type]

    def output_size(self, input_size: int | None = None) -> int:
        forward, backward = (net.output_size(input_size) for net in self.directions)  # type: ignore[arg-type]
        if self.merge == "none":
            raise checks.problem("Bidirectional", "merge", "one that gives one output, for what follows", "'none'")
        if self.merge == "concat":
            return forward + backward
        if forward != backward:
            came = f"{forward} and {backward}"
            raise checks.problem("Bidirectional", "merge", "'concat' or equal output sizes", came)
        return forward

    def initial_state(self, params: BidirectionalParams, batch_shape: Shape = ()) -> BidirectionalState:
        checks.instance("Bidirectional.initial_state", "params", params, BidirectionalParams)
        pairs = zip(self.directions, params, strict=True)
        return BidirectionalState(*[net.initial_state(p, batch_shape) for net, p in pairs])

    def unroll(
        self, params: BidirectionalParams, inputs: Array, state: BidirectionalState, run: Run
    ) -> tuple[BidirectionalState, Any, tuple[Any, Any]]:
        if run.one_step:
            raise NotImplementedError(
                "step: net: a Bidirectional net needs the end of the sequence for its first output; type unroll."
            )
        (forward, backward), back = self.directions, run.at(1).replace(reverse=not run.reverse)
        s_f, y_f, seen_f = run_net(forward, params.forward, inputs, state.forward, run.at(0))
        s_b, y_b, seen_b = run_net(backward, params.backward, inputs, state.backward, back)
        merge = MERGES[self.merge]
        if run.return_sequences and not run.time_major:
            # As the caller's arrays lie: "native" gives y so, and no copy turns it around here and back behind.
            axes = len(run.batch_shape)
            y_f, y_b = (jax.tree.map(lambda a: jnp.moveaxis(a, 0, axes), y) for y in (y_f, y_b))
            y = jax.tree.map(lambda a: jnp.moveaxis(a, axes, 0), merge(y_f, y_b))
        else:
            y = merge(y_f, y_b)
        return BidirectionalState(s_f, s_b), y, (seen_f, seen_b)
