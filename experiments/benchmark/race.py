"""Race all contenders on one problem: build them, check them against jlstm, time them in rounds; torch comes last."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import peers, timing
from experiments.benchmark.contenders import (
    AGAIN,
    CONTENDERS,
    MODES,
    DisagreementError,
    Ready,
    compare,
    example,
    numbers,
    prepare,
)
from experiments.benchmark.plan import Plan, called
from experiments.benchmark.problem import Problem
from experiments.benchmark.results import Row

JLSTM = CONTENDERS[0]


class Checked(NamedTuple):
    """The JAX contenders that give jlstm's numbers, jlstm first. want: these numbers."""

    ready: dict[str, Ready]
    programs: dict[str, dict[str, Any]]
    want: Any
    params: Any
    x: jax.Array


def check(plan: Plan, problem: Problem) -> Checked:
    """Build, compile and compare. A contender that disagrees or fails is refused; a failure of jlstm is an error.

    For a dtype other than float32, a contender must first be right in float32; then its outputs are compared.
    """
    params, x = example(problem)
    checked = Checked({}, {}, {}, params, x)
    known = [c for c in plan.contenders if c.build is not None and problem.net in c.nets]
    if problem.dtype != "float32":
        right = check(plan, problem._replace(dtype="float32")).ready
        known = [c for c in known if c.name in right]
    for contender in known:
        try:
            ready = prepare(contender, problem, params)
            programs = {mode: timing.compiled(f, ready.leaves, x) for mode, f in ready.functions.items()}
            same = programs
            if jax.default_backend() != "cpu":
                # An accelerator's rounding in matmuls is not a disagreement. The timed programs keep its default.
                with jax.default_matmul_precision("highest"):
                    same = {mode: timing.compiled(f, ready.leaves, x) for mode, f in ready.functions.items()}
            got = comparable(numbers(ready, x, same), problem)
            if not checked.want:
                checked.want.update(got)
            compare(ready.name, got, checked.want, problem.dtype)
        except Exception as error:
            if contender is JLSTM:
                raise
            if isinstance(error, DisagreementError):
                plan.refuse(problem, error)
                continue
            lines = str(error).splitlines() or [""]
            plan.refuse(problem, DisagreementError(f"{contender.name}: refused: {type(error).__name__}: {lines[0]}"))
            continue
        checked.ready[ready.name], checked.programs[ready.name] = ready, programs
    return checked


def comparable(found: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """Return all numbers in float32, only the outputs in bfloat16. There peers sum a bias's gradient over B and T in
    8 bits, and two that are both right can differ by half of it."""
    return found if problem.dtype == "float32" else {"outputs": found["outputs"]}


def race(plan: Plan, problem: Problem) -> list[Row]:
    """Return rows for forward and forward+backward. jlstm is there twice; torch comes last, from its own process."""
    found = check(plan, problem)
    ours, x = found.ready[JLSTM.name], found.x
    ready = found.ready | {AGAIN: ours}
    again = {mode: timing.compiled(f, ours.leaves, x) for mode, f in ours.functions.items()}
    rows = []
    for mode in MODES:
        entries = {}
        for name, programs in (found.programs | {AGAIN: again}).items():
            entries[name] = called(programs[mode], ready[name].leaves, x)
        rows += plan.rows(problem.case, mode, entries)
    if any(contender.build is None for contender in plan.contenders):
        try:
            medians = {row.mode: row.summary.median for row in rows if row.name == JLSTM.name}
            rows += torch_race(plan, problem, found, medians)
        except DisagreementError as error:
            plan.refuse(problem, error)
    return rows


def torch_race(plan: Plan, problem: Problem, found: Checked, medians: dict[str, float]) -> list[Row]:
    """Return torch's rows. torch shares no round with jlstm, so the ratio is of medians and has no quartiles."""
    if problem.dtype != "float32":  # correctness is checked there
        exact = problem._replace(dtype="float32")
        ours = check(dataclasses.replace(plan, contenders=(JLSTM,)), exact)
        compare("torch", ask_torch(exact, ours.params, ours.x, 1)[1], ours.want, exact.dtype)
    about, got = ask_torch(problem, found.params, found.x, plan.rounds)
    compare("torch", comparable(got, problem), found.want, problem.dtype)
    name = f"torch ({about['threads']} threads, own round)"
    rows = []
    for mode, times in about["times"].items():
        alone = timing.summarise({name: np.array(times)}, name)[name]
        summary = alone._replace(ratio=alone.median / medians[mode], ratio_q1=None, ratio_q3=None)
        rows.append(Row(problem.case, mode, name, summary))
    return rows


def ask_torch(problem: Problem, params: Any, x: jax.Array, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run torch in its own process; return (threads and seconds by mode, the numbers to compare)."""
    flat, pull = jax.vjp(peers.torch_arrays, params)
    ask = problem._asdict() | {"rounds": rounds, "rest": timing.REST}
    arrays: dict[str, Any] = {f"w{n}": np.asarray(a, np.float32) for n, a in enumerate(flat)}
    arrays["x"] = np.asarray(x, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, allow_pickle=False, ask=json.dumps(ask), **arrays)
        program = Path(__file__).with_name("torch_process.py")
        done = subprocess.run([sys.executable, program, source, target], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DisagreementError(f"torch: refused: its process failed: {done.stderr.strip().splitlines()[-1]}")
        with np.load(target) as file:
            arrays = {name: file[name] for name in file.files}
    gradients = pull([jnp.asarray(arrays[f"w{n}"], a.dtype) for n, a in enumerate(flat)])[0]
    found = {"outputs": arrays["outputs"], "gradients": gradients, "gradient of x": arrays["dx"]}
    return json.loads(str(arrays["about"])), found
