"""One problem, all contenders: built, checked against jlstm, then timed in rounds; torch after them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmark import peers, timing
from experiments.benchmark.contenders import AGAIN, CONTENDERS, MODES, Contender, Disagreement, Mode, Ready
from experiments.benchmark.contenders import compare, example, numbers, prepare
from experiments.benchmark.problem import Problem
from experiments.benchmark.results import Row

JLSTM = CONTENDERS[0]


@dataclasses.dataclass
class Plan:
    """What was asked for. contenders: jlstm first, then the others that can run here, torch among them.

    say: prints a line while the benchmark runs.   refused: grows by a line for every contender that disagrees.
    """

    shapes: tuple[tuple[int, int, int, int], ...]
    contenders: tuple[Contender, ...]
    rounds: int
    dtype: str
    say: Callable[[str], None]
    refused: list[str] = dataclasses.field(default_factory=list)

    def jax_contenders(self, problem: Problem) -> list[Contender]:
        return [c for c in self.contenders if c.build is not None and problem.net in c.nets]

    def refuse(self, problem: Problem, error: Disagreement) -> None:
        line = f"{error} ({problem.net} at {problem.case})"
        self.refused.append(line)
        self.say(line)


def checked(plan: Plan, problem: Problem, params: Any, x: jax.Array) -> Iterator[tuple[Ready, dict[Mode, Any]]]:
    """Every JAX contender that gives jlstm's numbers, with its compiled programs; jlstm comes first."""
    want = None
    # What matmuls round to on an accelerator is no disagreement; what is timed keeps the platform's default.
    exact = None if jax.default_backend() == "cpu" else "highest"
    for contender in plan.jax_contenders(problem):
        ready = prepare(contender, problem, params)
        programs = {mode: timing.compiled(f, ready.leaves, x) for mode, f in ready.functions.items()}
        try:
            if exact:
                with jax.default_matmul_precision(exact):
                    same = {mode: timing.compiled(f, ready.leaves, x) for mode, f in ready.functions.items()}
                    got = numbers(ready, x, same)
            else:
                got = numbers(ready, x, programs)
            want = want or got
            compare(ready.name, got, want, problem.dtype)
        except Disagreement as error:
            plan.refuse(problem, error)
            continue
        yield ready, programs


def race(plan: Plan, problem: Problem) -> list[Row]:
    """Rows for forward and forward+backward, jlstm twice among them; torch's last, from a process of its own."""
    params, x = example(problem)
    entries = {ready.name: (ready, programs) for ready, programs in checked(plan, problem, params, x)}
    ours, _ = entries[JLSTM.name]
    again = {mode: timing.compiled(f, ours.leaves, x) for mode, f in ours.functions.items()}
    entries[AGAIN] = ours, again
    rows = []
    for mode in MODES:
        calls = {name: _call(programs[mode], ready.leaves, x) for name, (ready, programs) in entries.items()}
        summaries = timing.summarise(timing.rounds(calls, plan.rounds), JLSTM.name)
        rows += [
            Row(problem.case, mode, name, summaries[name], timing.temporaries(programs[mode]))
            for name, (_, programs) in entries.items()
        ]
    if any(c.build is None for c in plan.contenders):
        try:
            rows += torch_race(plan, problem, params, x, rows, ours, entries[JLSTM.name][1])
        except Disagreement as error:
            plan.refuse(problem, error)
    return rows


def _call(program: Any, leaves: Any, x: Any) -> timing.Call:
    return lambda: program(leaves, x)


def torch_race(
    plan: Plan, problem: Problem, params: Any, x: jax.Array, rows: list[Row], ours: Ready, programs: Any
) -> list[Row]:
    """torch's rows. It shares no round with jlstm: the ratio is of medians, and has no quartiles."""
    flat, pull = jax.vjp(peers.torch_arrays, params)
    ask = problem._asdict() | {"rounds": plan.rounds, "rest": timing.REST}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        arrays = {f"w{n}": np.asarray(a, np.float32) for n, a in enumerate(flat)}
        np.savez(source, ask=json.dumps(ask), x=np.asarray(x, np.float32), **arrays)
        program = Path(__file__).with_name("torch_process.py")
        done = subprocess.run([sys.executable, program, source, target], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Disagreement(f"torch: refused: its process failed: {done.stderr.strip().splitlines()[-1]}")
        with np.load(target) as file:
            found = {name: file[name] for name in file.files}
    about = json.loads(str(found.pop("about")))
    gradients = pull([jax.numpy.asarray(found[f"w{n}"], a.dtype) for n, a in enumerate(flat)])[0]
    got = {"outputs": found["outputs"], "gradients": gradients, "gradient of x": found["dx"]}
    compare("torch", got, numbers(ours, x, programs), problem.dtype)
    name = f"torch ({about['threads']} threads, own round)"
    theirs = timing.summarise({mode: np.array(about["times"][mode]) for mode in MODES}, MODES[0])
    medians = {row.mode: row.summary.median for row in rows if row.name == JLSTM.name}
    return [
        Row(
            problem.case,
            mode,
            name,
            theirs[mode]._replace(ratio=theirs[mode].median / medians[mode], ratio_q1=None, ratio_q3=None),
        )
        for mode in MODES
    ]
