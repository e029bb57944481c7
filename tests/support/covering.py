"""A small sample of all combinations of some options, and a name for each of its choices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest


def sample(factors: dict[str, tuple[Any, ...]], strength: int = 2) -> list[dict[str, Any]]:
    """Few choices of all factors, in which every combination of any `strength` of them occurs; the same at each run.

    A greedy covering array: around a combination not yet seen, the other factors in some random orders, each with the
    value that sees most beside those before it; of these choices the one that sees most.
    """
    names, rng = list(factors), random.Random(0)
    missing = {
        frozenset(zip(group, values, strict=True))
        for group in itertools.combinations(names, strength)
        for values in itertools.product(*(factors[name] for name in group))
    }
    order = sorted(missing, key=lambda c: sorted(map(repr, c)))  # a set's own differs from run to run
    chosen: list[dict[str, Any]] = []

    def seen(choice: dict[str, Any], name: str, value: Any) -> int:
        others = itertools.combinations(choice.items(), strength - 1)
        return sum(frozenset((*other, (name, value))) in missing for other in others)

    for first in order:
        if first not in missing:
            continue
        candidates = []
        for _ in range(10):
            choice = dict(first)
            for name in rng.sample([name for name in names if name not in choice], len(names) - strength):
                values = rng.sample(factors[name], len(factors[name]))
                choice[name] = max(values, key=lambda value, name=name: seen(choice, name, value))
            found = missing.intersection(map(frozenset, itertools.combinations(choice.items(), strength)))
            candidates.append((found, choice))
        found, best = max(candidates, key=lambda candidate: len(candidate[0]))
        missing -= found
        chosen.append({name: best[name] for name in names})
    return chosen


def thinned(values: Iterable[Any], keep: int) -> list[Any]:
    """Parameters of a test: one of `keep` values runs by default, and every one with `--slow`."""
    return [pytest.param(v, marks=() if n % keep == 0 else pytest.mark.slow) for n, v in enumerate(values)]


def label(choice: dict[str, Any]) -> str:
    """A short, readable test id: the names of what is on."""
    shown = [str(choice["row"])] if "row" in choice else []
    for name, value in choice.items():
        if name in ("backend", "row"):
            shown += [value] if name == "backend" else []
        elif name == "batch":
            shown.append(f"{len(value)}B")
        elif value is True or (value and value != 1):
            shown.append(name if value is True else f"{name}={value}")
    return "-".join(shown)
