"""`Stack`: one layer on another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from jlstm import checks
from jlstm.engine import Run, run_net
from jlstm.records import record
from jlstm.types import Array, Cell, Key, Layer, Params, Shape, State


@record
class Stack(Layer):
    """Layers one after another.

    - `layers`: a tuple of layers and cells. A cell stands for the layer that runs it.

    Parameters and state are tuples with one entry a layer, `()` where it has none. With `return_sequences=False` the
    last recurrent layer returns its last step only, and the layers behind it see just that step. Layer l draws its
    noise from `fold_in(key, l)`.

    >>> import jlstm
    >>> net = Stack((jlstm.Embed(10, 4), jlstm.LSTM(8), jlstm.Dropout(0.1), jlstm.Dense(2)))
    >>> params, ids = net.init(jax.random.key(0)), jax.numpy.zeros((3, 7), int)
    >>> jlstm.unroll(net, params, ids, return_sequences=True)[1].shape
    (3, 7, 2)
    """

    layers: tuple[Cell | Layer, ...]

    def __post_init__(self) -> None:
        expected = "a tuple of cells and layers"
        if not isinstance(self.layers, Iterable):
            raise checks.problem("Stack", "layers", expected, checks.show(self.layers), kind=TypeError)
        layers = tuple(checks.net("Stack", f"layers[{n}]", layer) for n, layer in enumerate(self.layers))
        if not layers:
            raise checks.problem("Stack", "layers", f"{expected}, at least one", "none")
        for n, layer in enumerate(layers[1:], start=1):
            if layer.feature_axes == 0:
                came = f"{type(layer).__name__}, which takes ids"
                raise checks.problem("Stack", f"layers[{n}]", "a layer that takes floats", came)
        object.__setattr__(self, "layers", layers)

    @property
    def feature_axes(self) -> int:
        return self.layers[0].feature_axes

    @property
    def recurrent(self) -> bool:
        return any(layer.recurrent for layer in self.layers)

    def init(self, key: Key, input_size: int | None = None) -> tuple[Params, ...]:
        """Draw the parameters; `input_size` is D, None where the stack begins with `Embed`."""
        checks.key("Stack.init", key)
        keys, sizes = jax.random.split(key, len(self.layers)), self._sizes(input_size)
        return tuple(layer.init(k, D) for layer, k, D in zip(self.layers, keys, sizes, strict=True))  # type: ignore[arg-type]

    def _sizes(self, input_size: int | None) -> list[int | None]:
        """The input size of every layer."""
        sizes = [input_size]
        for layer in self.layers[:-1]:
            sizes.append(layer.output_size(sizes[-1]))  # type: ignore[arg-type]
        return sizes

    def output_size(self, input_size: int | None = None) -> int:
        return self.layers[-1].output_size(self._sizes(input_size)[-1])  # type: ignore[arg-type]

    def initial_state(self, params: tuple[Params, ...], batch_shape: Shape = ()) -> tuple[State, ...]:
        checks.instance("Stack.initial_state", "params", params, tuple, len(self.layers))
        return tuple(layer.initial_state(p, batch_shape) for layer, p in zip(self.layers, params, strict=True))

    def unroll(
        self, params: tuple[Params, ...], inputs: Array, state: tuple[State, ...], run: Run
    ) -> tuple[tuple[State, ...], Any, tuple[Any, ...]]:
        last = max((n for n, layer in enumerate(self.layers) if layer.recurrent), default=0)
        states, traces = [], []
        for n, (layer, p, s) in enumerate(zip(self.layers, params, state, strict=True)):
            here = run.at(n)
            if not run.return_sequences and not run.at_last:
                here = here.replace(return_sequences=n < last, at_last=n > last)
            s, inputs, seen = run_net(layer, p, inputs, s, here)
            states.append(s)
            traces.append(seen)
        return tuple(states), inputs, tuple(traces)
