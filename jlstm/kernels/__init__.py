"""Ways to run one cell over time: the same numbers, the same gradients, another speed.

Each is called as `(cell, how, params, fixed, carry, steps) -> (carry, (outputs, before))`.
"""

from __future__ import annotations

import jax

from jlstm.cells import MinLSTM
from jlstm.kernels import associative as _associative
from jlstm.kernels.associative import associative
from jlstm.kernels.hoisted import hoisted
from jlstm.kernels.scan import scan
from jlstm.types import Backend, Cell

BACKENDS = {"scan": scan, "hoisted": hoisted, "associative": associative}


def choose(where: str, cell: Cell, named: Backend | None) -> Backend:
    """The backend for a cell: the named one, or NotImplementedError; without a name the fastest one."""
    if named == "associative":
        _associative.check(where, cell)
    if named is None:
        # TODO measure
        return "associative" if type(cell) is MinLSTM and jax.default_backend() != "cpu" else "hoisted"
    return named
