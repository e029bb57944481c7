"""The sections that race jlstm against its peers. Each is `(plan) -> Result`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jlstm
from experiments.benchmark import markdown, peers, timing
from experiments.benchmark.contenders import AGAIN, MODES, DisagreementError, compare, example
from experiments.benchmark.plan import Entry, Plan, entry
from experiments.benchmark.problem import Net, Problem
from experiments.benchmark.race import JLSTM, check, race
from experiments.benchmark.results import Result, Row

COMPILES = 5
STEP_SIZES = (1, 32)  # batch sizes
STEP_CALLS = 20
SCAN_SIZES = tuple((B, H) for B in STEP_SIZES for H in (64, 256, 512))  # with D = H
SCANNED = 100  # steps
SQUARE = 1024
DEEPBENCH = ((256, 150, (16, 32, 64)), (512, 25, (16, 32, 64)), (1024, 25, (16, 32, 64)))
NO_PEERS = ("jlstm", "torch")  # beginnings of the names that are not JAX peers
COMMON = (
    "Median time of a call, and after the dot the ratio to jlstm, pair by pair (median over rounds, quartiles): above "
    "1 is slower than jlstm. "
)


def shapes(plan: Plan) -> Result:
    """Race all contenders at all shapes."""
    rows, shares = [], []
    for number, shape in enumerate(plan.shapes, start=1):
        problem = Problem(*shape, dtype=plan.dtype)
        plan.say(f"shapes: {problem.case} ({number} of {len(plan.shapes)})")
        rows += race(plan, problem)
        shares.append(f"{matmul_share(plan, problem):.2f} at {problem.case}")
    about = (
        COMMON + "Columns are B,T,D,H. forward gives the outputs of all steps; forward+backward the mean of their "
        "squares and its gradients with respect to all parameters and x."
    )
    facts = against_peers(rows) | {"forward of jlstm, share of the matmul rate": "; ".join(shares)}
    return Result("One LSTM over a sequence", about, JLSTM.name, rows, facts, chart="ratio", mean=True)


def matmul_share(plan: Plan, problem: Problem) -> float:
    """Return the rate of jlstm's forward pass in FLOP per second, divided by the rate of a square matmul of JAX.

    Both are timed in the same rounds. The FLOP of the pass are those of its matmuls alone.
    """
    (params,), x = example(problem)
    cell, square = jlstm.LSTM(problem.H, param_dtype=problem.dtype), jnp.ones((SQUARE, SQUARE), problem.dtype)
    entries = {
        "jlstm": entry(lambda p, x: jlstm.unroll(cell, p, x, return_sequences=True)[1], params, x),
        "matmul": entry(jnp.matmul, square, square),
    }
    ours, matmul = (row.summary.median for row in plan.rows(problem.case, "forward", entries))
    steps = problem.B * problem.T * (problem.D + problem.H) * 4 * problem.H
    return steps / ours / (SQUARE**3 / matmul)


def deepbench(plan: Plan) -> Result:
    """Race jlstm and torch at the sizes of Baidu's DeepBench, D = H."""
    rows, few = [], dataclasses.replace(plan, contenders=tuple(c for c in plan.contenders if c.name in NO_PEERS))
    for H, T, sizes in DEEPBENCH:
        for B in sizes:
            problem = Problem(B, T, H, H, dtype=plan.dtype)
            plan.say(f"deepbench: {problem.case}")
            rows += race(few, problem)
    return Result("The sizes of DeepBench", COMMON + "B,T,D,H.", JLSTM.name, rows, chart="ratio", mean=True)


def of_net(net: Net, title: str) -> Callable[[Plan], Result]:
    """Return the section that races the first shape with another net."""

    def section(plan: Plan) -> Result:
        problem = plan.first._replace(net=net)
        plan.say(f"{net}: {problem.case}")
        rows = race(plan, problem)
        return Result(title, COMMON + "B,T,D,H.", JLSTM.name, rows, against_peers(rows), chart="ratio")

    return section


def against_peers(rows: list[Row]) -> dict[str, Any]:
    """Return, by mode, the fastest JAX peer's ratio in every case, and the geometric mean of all peers' ratios."""
    facts = {}
    theirs = [row for row in rows if not row.name.startswith(NO_PEERS)]
    for mode in dict.fromkeys(row.mode for row in theirs):
        cases: dict[str, dict[str, float]] = {}
        for row in theirs:
            if row.mode == mode and row.summary.ratio:
                cases.setdefault(row.case, {})[row.name] = row.summary.ratio
        best = [(min(ratios.items(), key=lambda item: item[1]), case) for case, ratios in cases.items()]
        facts[f"{mode}, the fastest JAX peer"] = "; ".join(f"{name} {r:.2f} at {case}" for (name, r), case in best)
        mean = markdown.geometric_mean([ratio for ratios in cases.values() for ratio in ratios.values()])
        facts[f"{mode}, geometric mean of the JAX peers"] = round(mean, 3)
    return facts


def compile_time(plan: Plan) -> Result:
    """Time tracing, lowering and compilation at the first shape."""
    problem = plan.first
    plan.say(f"compile: {problem.case}")
    found = check(plan, problem)
    ready = found.ready | {AGAIN: found.ready[JLSTM.name]}
    rows = []
    for mode in MODES:
        functions = {name: (one.functions[mode], (one.leaves, found.x)) for name, one in ready.items()}
        summaries = timing.summarise(timing.compiling(functions, COMPILES), JLSTM.name)
        rows += [Row(problem.case, mode, name, summaries[name]) for name in ready]
    about = (
        f"Median seconds of {COMPILES} to trace, lower and compile a fresh function, all caches of jax emptied before, "
        "and the ratio to jlstm. B,T,D,H."
    )
    return Result("Compile time", about, JLSTM.name, rows, against_peers(rows), chart="ratio")


def step(plan: Plan) -> Result:
    """Time one step by itself, which is the cost of a call in an actor or a server."""
    rows, D, H = [], 64, 128
    for B in STEP_SIZES:
        problem = Problem(B, 1, D, H, dtype=plan.dtype)
        plan.say(f"step: {problem.case}")
        entries = steps(plan, problem)
        rows += plan.rows(f"B = {B}", "one step", entries, repeats=STEP_CALLS)
    for B, H_scan in SCAN_SIZES:
        problem = Problem(B, SCANNED, H_scan, H_scan, dtype=plan.dtype)
        plan.say(f"step: scan, {problem.case}")
        rows += plan.rows(f"B = {B}, H = {H_scan}", "a step of a scan", scans(plan, problem), per=SCANNED)
    about = (
        f"Latency of a call for one step, D = {D}, H = {H}, dispatch included: {STEP_CALLS} calls in a row, each "
        "blocked. jitted: the call stands in the caller's `jax.jit`; eager: it does not. Below, the time per step of "
        f"`lax.scan` over {SCANNED} steps, D = H. jitted: the parameters are an argument; closed over: they are not."
    )
    return Result("A single step", about, "jlstm.step, jitted", rows, chart="time")


def steps(plan: Plan, problem: Problem) -> dict[str, Entry]:
    """Return the calls by name. A contender whose y differs from jlstm's is refused."""
    (params,), x = example(problem)
    x, cell = x[:, 0], jlstm.LSTM(problem.H, param_dtype=problem.dtype)
    state = cell.initial_state(params, (problem.B,))
    both = jax.random.normal(jax.random.key(7), (2, problem.B, problem.H), problem.dtype)
    state = jlstm.LSTMState(both[0], both[1].astype(state.c.dtype))

    def ours() -> Callable[[], Any]:
        call = jax.jit(lambda params, state, x: jlstm.step(cell, params, state, x))
        return lambda: call(params, state, x)

    calls: dict[str, Callable[[], Any]] = {
        "jlstm.step, jitted": ours(),
        f"{AGAIN}, jitted": ours(),
        "jlstm.step, eager": lambda: jlstm.step(cell, params, state, x),
    }
    for name, build in (("hand-written", peers.hand_written_step), ("flax-nnx", peers.flax_nnx_step)):
        if plan.has(name):
            calls |= build(problem, params, state, x)
    want = {"y": calls["jlstm.step, jitted"]()[1]}
    entries = {}
    for name, call in calls.items():
        try:
            compare(name, {"y": call()[1]}, want, problem.dtype)
            entries[name] = Entry(call)
        except DisagreementError as error:
            plan.refuse(problem, error)
    return entries


def scans(plan: Plan, problem: Problem) -> dict[str, Entry]:
    """Return scans over single steps by name, as an actor takes them. One whose y differs from jlstm's is refused."""
    (params,), x = example(problem)
    cell, xs = jlstm.LSTM(problem.H, param_dtype=problem.dtype), jnp.swapaxes(x, 0, 1)
    state = cell.initial_state(params, (problem.B,))

    def ours(params: Any, state: Any, xs: jax.Array) -> Any:
        return jax.lax.scan(lambda state, x: jlstm.step(cell, params, state, x), state, xs)[1]

    def closed(function: Callable[..., Any], params: Any, state: Any) -> Entry:
        return entry(lambda state, xs: function(params, state, xs), state, xs)

    entries = {
        "jlstm.step, jitted": entry(ours, params, state, xs),
        f"{AGAIN}, jitted": entry(ours, params, state, xs),
        "jlstm.step, closed over": closed(ours, params, state),
    }
    if plan.has("hand-written"):
        weights, start = peers.flat_weights(params), tuple(state)
        entries["hand-written, jitted"] = entry(peers.hand_written_scan, weights, start, xs)
        entries["hand-written, closed over"] = closed(peers.hand_written_scan, weights, start)
    want, agreeing = {"y": entries["jlstm.step, jitted"].call()}, {}
    for name, made in entries.items():
        try:
            compare(name, {"y": made.call()}, want, problem.dtype)
            agreeing[name] = made
        except DisagreementError as error:
            plan.refuse(problem, error)
    return agreeing


bidirectional = of_net("bidirectional", "Two directions, concatenated")
stack = of_net("stack", "Two layers")
