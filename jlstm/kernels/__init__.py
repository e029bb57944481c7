"""Ways to run one cell over time: the same numbers, the same gradients, another speed.

Each is called as `(cell, options, params, fixed, carry, steps) -> (carry, (outputs, before))`.
"""

from __future__ import annotations

import jax
import jax.export

from jlstm.cells import MinLSTM
from jlstm.kernels.associative import associative
from jlstm.kernels.hoisted import hoisted
from jlstm.kernels.native import absence, is_slow, native, refusal
from jlstm.kernels.scan import Options, scan
from jlstm.types import Array, Backend, Cell, Params, State

BACKENDS = {"scan": scan, "hoisted": hoisted, "associative": associative, "native": native}


def available() -> dict[str, str | None]:
    """Return None for each backend that works here, and for the others why not.

    A backend that works may not run every cell: `unroll` says so where you name it.

    >>> available()["scan"] is None
    True
    """
    return dict.fromkeys(BACKENDS) | {"native": absence()}


def choose(options: Options, cell: Cell, params: Params, state: State, x: Array) -> Backend:
    """The backend for a cell over x `[T, *B, D]`: the named one, else the fastest for the platform.

    Raises NotImplementedError where the named one does not run the cell, or where JAX has no loop for a symbolic T.
    """
    where, named, symbolic = options.name, options.backend, jax.export.is_symbolic_dim(x.shape[0])
    if symbolic and options.scan_unroll > 1:
        need = "lax.scan needs a static T for more than 1"
        raise NotImplementedError(f"{where}: scan_unroll: {need}. Type scan_unroll=1.")
    if symbolic and named == "associative":
        raise NotImplementedError(
            f"{where}: backend: 'associative' needs a static T, as lax.associative_scan does. Type backend='hoisted'."
        )
    linear = type(cell) is MinLSTM  # a class derived from it may have another update
    if named == "associative" and not linear:
        raise NotImplementedError(
            f"{where}: backend: 'associative' runs MinLSTM alone, whose steps are linear in its state and whose gates "
            f"do not see it; got {type(cell).__name__}. Type backend='hoisted'."
        )
    refused = refusal(cell, params, state, x)
    if named == "native" and refused:
        raise NotImplementedError(f"{where}: backend: 'native' {refused}. Type backend='hoisted'.")
    if named is not None:
        return named
    if refused is None and not is_slow(params, x):
        return "native"
    # On two CPU cores the parallel form takes 0.97 to 1.7 times as long as the loop, the more the longer the sequence
    # (`python -m experiments.benchmark.linear`): its rounds are passes over memory. On GPU and TPU, where each step of
    # a loop costs a launch, it is expected to win, and was not measured.
    parallel = linear and not symbolic and x.shape[0] > 1 and jax.default_backend() != "cpu"
    return "associative" if parallel else "hoisted"
