"""How time is taken: interleaved rounds in shuffled order, warm, every call blocked, and ratios pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Call = Callable[[], Any]
REST = 0.010  # seconds before each timed call, for whatever the last one left running


class Summary(NamedTuple):
    """Seconds (median, quartiles), and the ratio to the baseline: the median over rounds, and its quartiles, of the
    time over the baseline's time in the same round; above 1 is slower than the baseline."""

    median: float
    q1: float
    q3: float
    ratio: float | None = None
    ratio_q1: float | None = None
    ratio_q3: float | None = None


def rounds(calls: Mapping[str, Call], count: int, *, repeats: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Seconds a call, `[count]` by name. repeats: calls in one timed go, for calls of microseconds."""
    for call in calls.values():
        for _ in range(2):
            jax.block_until_ready(call())
    rng = np.random.default_rng(seed)
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(count):
        for name in rng.permutation(names):
            call = calls[name]
            time.sleep(REST)
            start = time.perf_counter()
            for _ in range(repeats):
                result = jax.block_until_ready(call())
            times[name].append((time.perf_counter() - start) / repeats)
            del result  # given back outside of the time taken
    return {name: np.array(taken) for name, taken in times.items()}


def compiling(
    functions: Mapping[str, tuple[Call, tuple[Any, ...]]], count: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Seconds to trace, lower and compile, `[count]` by name, each time as in a fresh process: no cache helps."""
    rng = np.random.default_rng(seed)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(count + 1):
        for name in rng.permutation(list(functions)):
            function, arguments = functions[name]
            jax.clear_caches()
            time.sleep(REST)
            start = time.perf_counter()
            compiled(function, *arguments)
            if number:  # the first is warm-up: the compiler itself starts
                times[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in times.items()}


def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """A program of its own, even where an equal function was compiled before."""
    return jax.jit(lambda *a: function(*a)).lower(*arguments).compile()


def temporaries(program: Any) -> int | None:
    """Bytes that a compiled program needs beside arguments and results; None where that is not known."""
    analysis = None if program is None else program.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def summarise(times: Mapping[str, np.ndarray], baseline: str) -> dict[str, Summary]:
    """By name."""

    def quartiles(a: np.ndarray) -> tuple[float, float, float]:
        q1, median, q3 = np.percentile(a, [25, 50, 75])
        return float(median), float(q1), float(q3)

    return {name: Summary(*quartiles(taken), *quartiles(taken / times[baseline])) for name, taken in times.items()}
