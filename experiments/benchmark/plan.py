"""The settings of a benchmark run, and the rounds over programs that all sections share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.benchmark import timing
from experiments.benchmark.contenders import Contender, DisagreementError
from experiments.benchmark.problem import Problem
from experiments.benchmark.results import Row

Shape = tuple[int, int, int, int]


class Entry(NamedTuple):
    """A call to time. program: the compiled program that it calls, if any."""

    call: timing.Call
    program: Any = None


def called(program: Any, *arguments: Any) -> Entry:
    """Return an entry that calls a compiled program with `arguments`."""
    return Entry(lambda: program(*arguments), program)


def entry(function: Callable[..., Any], *arguments: Any) -> Entry:
    """Compile `function` for `arguments` and return an entry that calls it with them."""
    return called(timing.compiled(function, *arguments), *arguments)


@dataclasses.dataclass
class Plan:
    """The settings of a run. contenders: jlstm first, then the others that can run here, including torch.

    say: prints a line while the benchmark runs.   refused: one line for every contender that disagrees; it grows.
    """

    shapes: tuple[Shape, ...]
    contenders: tuple[Contender, ...]
    rounds: int
    dtype: str
    say: Callable[[str], None]
    refused: list[str] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> Problem:
        """The first shape, for sections that use one shape."""
        return Problem(*self.shapes[0], dtype=self.dtype)

    def has(self, name: str) -> bool:
        """Return True if a contender takes part."""
        return any(contender.name == name for contender in self.contenders)

    def refuse(self, problem: Problem, error: DisagreementError) -> None:
        """Report at once, and again at the end, which contender is not timed and why."""
        self.refused.append(f"{error} ({problem.net} at {problem.case})")
        self.say(self.refused[-1])

    def rows(self, case: str, mode: str, entries: Mapping[str, Entry], *, repeats: int = 1, per: int = 1) -> list[Row]:
        """Time the entries in rounds; the first is the baseline. per: the steps of a call, which divide its time."""
        times = timing.rounds({name: e.call for name, e in entries.items()}, self.rounds, repeats=repeats)
        summaries = timing.summarise({name: taken / per for name, taken in times.items()}, next(iter(entries)))
        return [Row(case, mode, name, summaries[name], timing.temporaries(e.program)) for name, e in entries.items()]
