"""[model] -> the net."""

from __future__ import annotations

import jlstm
from experiments.schema import Model


def build(model: Model, *, outputs: int, memory: int, embed: jlstm.Embed | None = None) -> jlstm.Stack:
    """Embed (if any), `layers` times the cell and its dropout, and `Dense(outputs)`.

    memory: the time span, in steps, that chrono initialisation aims at.
    """
    bias = jlstm.initializers.Chrono(memory) if model.forget_bias == "chrono" else model.forget_bias
    cell = jlstm.LSTM(model.hidden_size, forget_bias=bias)
    layer = (jlstm.Bidirectional(cell) if model.bidirectional else cell,)
    if model.dropout:
        layer = (*layer, jlstm.Dropout(model.dropout))
    return jlstm.Stack((*((embed,) if embed else ()), *layer * model.layers, jlstm.Dense(outputs)))
