"""Live oracles: values and gradients of Keras, flax (nnx and linen) and torch, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import covering
import jax
import numpy as np
import pytest
from peers import Arrays, Case, Run, arrays, keras, linen, nnx, ours, torch
from small import dot, equal

CASES = [
    Case("keras", "forward", None, False, True),
    Case("keras", "forward", "mask", True, False),
    Case("keras", "forward", "lengths", False, False),
    Case("keras", "forward", "mask", True, True, resets=True),
    Case("keras", "reverse", None, True, False),
    Case("keras", "reverse", "mask", False, True),
    Case("keras", "reverse", "lengths", True, True),
    Case("keras", "reverse", "mask", True, True, resets=True),
    Case("keras", "concat", None, True, True, resets=True),
    Case("keras", "concat", "mask", True, True),
    Case("keras", "sum", None, False, False),
    Case("keras", "mul", "lengths", True, True),
    Case("keras", "mean", "mask", False, False),
    *[
        case
        for peer in ("nnx", "linen")
        for case in (
            Case(peer, "forward", None, False, True, batch=(2, 2)),
            Case(peer, "forward", "lengths", True, False),
            Case(peer, "reverse", "lengths", True, True),
            Case(peer, "reverse", None, True, False, batch=()),
            Case(peer, "concat", "lengths", True, True),
            Case(peer, "concat", None, False, False),
        )
    ],
    Case("torch", "forward", None, False, True),
    Case("torch", "forward", "lengths", True, False),
    Case("torch", "concat", "lengths", True, True),
    Case("torch", "concat", None, False, False),
]
JAX_PEERS = {"keras": keras, "nnx": nnx, "linen": linen}


@pytest.mark.parametrize("case", covering.thinned(CASES, 3), ids=Case.label)
def test_values_and_gradients(case: Case) -> None:
    """Our state and y, and the gradients of their weighted sum by parameters, inputs and state, are the peer's."""
    a, weights = arrays(case)

    def gradients(run: Run) -> Callable[[Arrays], Any]:
        def loss(a: Arrays) -> Any:
            result = run(a)
            return dot(result, weights), result

        return jax.grad(loss, has_aux=True)

    peer = [JAX_PEERS[case.peer](case)] if case.peer in JAX_PEERS else []
    # One program: compiling is what this costs. That "scan" has the same numbers is the contract's to show.
    runs = [gradients(run) for run in [*peer, ours(case, "hoisted")]]
    found = jax.jit(lambda a: [run(a) for run in runs])(a)
    (want_grads, want), (grads, result) = found if peer else (torch(case, a, weights), *found)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(want_grads))
    got, want = (jax.tree.map(lambda r, w: r * (w != 0), end, weights) for end in (result, want))
    equal((got, grads), (want, want_grads), 1e-5)
