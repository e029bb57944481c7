"""Ways to run one cell over time: the same numbers, the same gradients, another speed.

Each is called as `(cell, options, params, fixed, carry, steps) -> (carry, (outputs, before))`.
"""

from __future__ import annotations

import jax

from jlstm.cells import MinLSTM
from jlstm.kernels.associative import associative
from jlstm.kernels.hoisted import hoisted
from jlstm.kernels.scan import scan
from jlstm.types import Backend, Cell

BACKENDS = {"scan": scan, "hoisted": hoisted, "associative": associative}


def choose(where: str, cell: Cell, T: int, named: Backend | None) -> Backend:
    """The backend for a cell over T steps: the named one, else the fastest for the platform.

    Raises NotImplementedError where the named one does not run the cell.
    """
    linear = type(cell) is MinLSTM  # a class derived from it may have another update
    if named == "associative" and not linear:
        raise NotImplementedError(
            f"{where}: backend: 'associative' runs MinLSTM alone, whose steps are linear in its state and whose gates "
            f"do not see it; got {type(cell).__name__}. Type backend='hoisted'."
        )
    if named is not None:
        return named
    # On two CPU cores the parallel form takes 0.97 to 1.7 times as long as the loop, the more the longer the sequence
    # (`python -m experiments.benchmark.linear`): its rounds are passes over memory. On GPU and TPU, where each step of
    # a loop costs a launch, it is expected to win, and was not measured.
    return "associative" if linear and T > 1 and jax.default_backend() != "cpu" else "hoisted"
