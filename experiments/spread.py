"""Spread members over the cores of a CPU: one thread per core calls the same compiled program with its share.

A program of small nets barely keeps one core busy, and its calls from different threads run in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


def cores() -> int:
    """Return the number of cores that this process may use, which a scheduler may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(f: Callable[..., Any], n: int, threads: int, *, over: int) -> Callable[..., Any]:
    """Return the jitted `f` over `n` members in `threads` threads.

    The first `over` arguments and the result lead with N. Each thread's call has an equal share of N; the last share
    repeats the last member if it is short, so that there is one program. The other arguments go to every call.
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

        # The first call compiles, so it runs alone; two at once would both compile.
        first = [] if shapes in compiled else [one(shares.pop(0))]
        compiled.add(shapes)
        parts = [*first, *pool.map(one, shares)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)

    return call


def _share(tree: Any, start: int, size: int) -> Any:
    """Return a share as NumPy arrays, for which nothing is compiled."""
    return jax.tree.map(lambda a: np.asarray(a).take(range(start, start + size), axis=0, mode="clip"), tree)
