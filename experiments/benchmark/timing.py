"""Timing: warm-up, interleaved rounds in shuffled order, every call blocked, and ratios pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Call = Callable[[], Any]
REST = 0.010  # seconds before each timed call, so that work left by the last one ends


class Summary(NamedTuple):
    """Seconds (median, quartiles), and the ratio to the baseline's time in the same round (median over rounds,
    quartiles). Above 1 is slower than the baseline."""

    median: float
    q1: float
    q3: float
    ratio: float | None = None
    ratio_q1: float | None = None
    ratio_q3: float | None = None


def rounds(calls: Mapping[str, Call], count: int, *, repeats: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the seconds per call, `[count]` by name. repeats: calls per measurement, for calls of microseconds."""
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
            del result  # freed outside of the measured time
    return {name: np.array(taken) for name, taken in times.items()}


def compiling(
    functions: Mapping[str, tuple[Call, tuple[Any, ...]]], count: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the seconds to trace, lower and compile, `[count]` by name, with empty caches as in a new process."""
    rng = np.random.default_rng(seed)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(count + 1):
        for name in rng.permutation(list(functions)):
            function, arguments = functions[name]
            jax.clear_caches()
            time.sleep(REST)
            start = time.perf_counter()
            compiled(function, *arguments)
            if number:  # the first is warm-up, since the compiler itself starts
                times[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in times.items()}


def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compile a new program, even if an equal function was compiled before."""
    return jax.jit(lambda *a: function(*a)).lower(*arguments).compile()


def temporaries(program: Any) -> int | None:
    """Return the bytes that a compiled program needs besides arguments and results; None if unknown."""
    analysis = None if program is None else program.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def summarise(times: Mapping[str, np.ndarray], baseline: str) -> dict[str, Summary]:
    """Return the summaries by name."""

    def quartiles(a: np.ndarray) -> tuple[float, float, float]:
        q1, median, q3 = np.percentile(a, [25, 50, 75])
        return float(median), float(q1), float(q3)

    return {name: Summary(*quartiles(taken), *quartiles(taken / times[baseline])) for name, taken in times.items()}
