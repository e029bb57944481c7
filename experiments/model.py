"""Build the net from [model]."""

from __future__ import annotations

from typing import Any

import jlstm
from experiments.schema import WITHOUT_FORGET_GATE, Model


def build(model: Model, *, outputs: int, memory: int, embed: jlstm.Embed | None = None) -> jlstm.Stack:
    """Return a stack of Embed (if any), `layers` cells with dropout, and `Dense(outputs)`. memory: see `build_cell`."""
    cell = build_cell(model, memory=memory)
    layer = (jlstm.Bidirectional(cell) if model.bidirectional else cell,)
    if model.dropout:
        layer = (*layer, jlstm.Dropout(model.dropout))
    return jlstm.Stack((*((embed,) if embed else ()), *layer * model.layers, jlstm.Dense(outputs)))


def build_cell(model: Model, *, memory: int) -> jlstm.Cell:
    """Return the cell inside its wrappers. Raises ValueError if a wrapper does not fit the cell inside it.

    memory: the time span of chrono initialisation, in steps.
    """
    given = {"projected_size": model.projected_size, "cell_clip": model.cell_clip}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    if model.cell not in WITHOUT_FORGET_GATE:
        chrono = model.forget_bias == "chrono"
        options["forget_bias"] = jlstm.initializers.Chrono(memory) if chrono else model.forget_bias
    cell = getattr(jlstm, model.cell)(model.hidden_size, **options)
    for wrapper in model.wrappers:
        cell = getattr(jlstm, wrapper.name)(cell, **wrapper.model_dump(exclude={"name"}))
    return cell
