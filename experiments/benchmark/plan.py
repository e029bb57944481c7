"""What a run was asked for, and what all sections share: rounds over programs."""

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
    """What is timed. program: the compiled one that it calls, where it is one."""

    call: timing.Call
    program: Any = None


def called(program: Any, *arguments: Any) -> Entry:
    """A compiled program, called with `arguments`."""
    return Entry(lambda: program(*arguments), program)


def entry(function: Callable[..., Any], *arguments: Any) -> Entry:
    """A program of `function`, compiled for `arguments` and called with them."""
    return called(timing.compiled(function, *arguments), *arguments)


@dataclasses.dataclass
class Plan:
    """What was asked for. contenders: jlstm first, then the others that can run here, torch among them.

    say: prints a line while the benchmark runs.   refused: grows by a line for every contender that disagrees.
    """

    shapes: tuple[Shape, ...]
    contenders: tuple[Contender, ...]
    rounds: int
    dtype: str
    say: Callable[[str], None]
    refused: list[str] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> Problem:
        """The first shape: that of the sections which take one."""
        return Problem(*self.shapes[0], dtype=self.dtype)

    def has(self, name: str) -> bool:
        """Whether a contender takes part."""
        return any(contender.name == name for contender in self.contenders)

    def refuse(self, problem: Problem, error: DisagreementError) -> None:
        """Says at once, and at the end, who is not timed and why."""
        self.refused.append(f"{error} ({problem.net} at {problem.case})")
        self.say(self.refused[-1])

    def rows(self, case: str, mode: str, entries: Mapping[str, Entry], *, repeats: int = 1, per: int = 1) -> list[Row]:
        """Rounds over the entries; the first is the baseline. per: steps that one call takes, to tell one's time."""
        times = timing.rounds({name: e.call for name, e in entries.items()}, self.rounds, repeats=repeats)
        summaries = timing.summarise({name: taken / per for name, taken in times.items()}, next(iter(entries)))
        return [Row(case, mode, name, summaries[name], timing.temporaries(e.program)) for name, e in entries.items()]
