"""Members over the cores of a CPU: one compiled program, called by a thread a core, each with its share of them.

A program of small nets hardly keeps one core busy, and calls of it from different threads run beside each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


def cores() -> int:
    """The cores that this process may use: a scheduler may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(f: Callable[..., Any], n: int, threads: int, *, over: int) -> Callable[..., Any]:
    """`f`, jitted, over `n` members in so many threads.

    The first `over` arguments and the result lead with N; each thread's call has an equal share of it, the last member
    once more where one is missing, so that there is one program. The others go to every call.
    """
    if threads == 1:
        return f
    size = -(-n // threads)
    pool, compiled = ThreadPoolExecutor(threads), set()

    def call(*args: Any) -> Any:
        shares = [[_share(tree, i, size) for tree in args[:over]] for i in range(0, n, size)]
        shapes = tuple(map(np.shape, jax.tree.leaves(args)))

        def one(share: list[Any]) -> Any:
            return jax.block_until_ready(f(*share, *args[over:]))

        # One call alone where it compiles: two would both do it.
        first = [] if shapes in compiled else [one(shares.pop(0))]
        compiled.add(shapes)
        parts = [*first, *pool.map(one, shares)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)

    return call


def _share(tree: Any, start: int, size: int) -> Any:
    """NumPy, for which nothing is compiled."""
    return jax.tree.map(lambda a: np.asarray(a).take(range(start, start + size), axis=0, mode="clip"), tree)
