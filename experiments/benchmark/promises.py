"""The sections that test the promises of jlstm. Each is `(plan) -> Result`."""

from __future__ import annotations

import functools
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp

import jlstm
from experiments.benchmark import timing
from experiments.benchmark.contenders import MODES, compare, example, loss, prepare
from experiments.benchmark.plan import Entry, Plan, entry
from experiments.benchmark.problem import Problem
from experiments.benchmark.race import JLSTM
from experiments.benchmark.results import Result, Row

MODELS = 16
LENGTHS = (200, 1000, 5000, 20_000)
LONG, EVERY = 10_000, 100
DIMENSIONS = re.compile(r"\b(?:f|bf)\d+\[([\d,]+)\]")
COMPILING = "/jax/core/compile/backend_compile_duration"
TRACING = "/jax/core/compile/jaxpr_trace_duration"


def vmap_parameters(plan: Plan) -> Result:
    """Time many models at once: `vmap` over the parameters against one call per model and against `lax.map`."""
    rows, T, D, H = [], 100, 32, 32
    for B in (4, 32):
        problem = Problem(B, T, D, H, dtype=plan.dtype)
        plan.say(f"vmap-parameters: {problem.case}")
        models = [prepare(JLSTM, problem, example(problem, seed)[0]) for seed in range(MODELS)]
        x = example(problem)[1]
        leaves = [model.leaves for model in models]
        stacked = [jnp.stack(same) for same in zip(*leaves, strict=True)]
        for mode in MODES:
            rows += plan.rows(f"B = {B}", mode, _many(models[0].functions[mode], leaves, stacked, x, plan.dtype))
    about = (
        f"{MODELS} models, T = {T}, D = {D}, H = {H}, x shared: `jax.vmap` over the parameters, {MODELS} calls in a "
        "row, blocked at the end, and `lax.map` in one program. The number after the dot is the ratio to `vmap`. The "
        "temporaries of separate calls are those of one call."
    )
    return Result("Sixteen models", about, "vmap", rows, chart="ratio")


def _many(f: Callable[..., Any], leaves: list[Any], stacked: Any, x: jax.Array, dtype: str) -> dict[str, Entry]:
    over = jax.vmap(f, in_axes=(0, None))
    one = timing.compiled(f, leaves[0], x)
    entries = {
        "vmap": entry(over, stacked, x),
        "vmap again (A/A)": entry(over, stacked, x),
        f"{MODELS} calls": Entry(lambda: [one(each, x) for each in leaves], one),
        "lax.map": entry(lambda stacked, x: jax.lax.map(lambda each: f(each, x), stacked), stacked, x),
    }
    separate = jax.tree.map(lambda *each: jnp.stack(each), *entries[f"{MODELS} calls"].call())
    for name in ("vmap", "lax.map"):
        compare(name, {"result": entries[name].call()}, {"result": separate}, dtype)
    return entries


def vmap_examples(plan: Plan) -> Result:
    """Time a function of one sequence under `vmap` against the batched call."""
    problem = plan.first
    plan.say(f"vmap-examples: {problem.case}")
    cell = jlstm.LSTM(problem.H, param_dtype=problem.dtype)
    params, x = example(problem)
    batched = prepare(JLSTM, problem, params)

    def one(leaves: Any, x: jax.Array) -> jax.Array:
        return jlstm.unroll(cell, jlstm.LSTMParams(*leaves), x, return_sequences=True)[1]

    def forward(leaves: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(one, in_axes=(None, 0))(leaves, x)

    mapped = {"forward": forward, "forward+backward": _differentiated(forward)}
    rows, facts = [], {}
    for mode in MODES:
        entries = {
            "batched": entry(batched.functions[mode], batched.leaves, x),
            "batched again (A/A)": entry(batched.functions[mode], batched.leaves, x),
            "vmap": entry(mapped[mode], batched.leaves, x),
        }
        compare("vmap", {"result": entries["vmap"].call()}, {"result": entries["batched"].call()}, plan.dtype)
        rows += plan.rows(problem.case, mode, entries)
        held = weight_gradients(entries["vmap"].program.as_text(), problem)
        facts[f"{mode}, arrays of the size [B, H, 4, H] in the compiled program"] = held
    about = (
        "The batched call, and `jax.vmap` over a function of one example, with the ratio to the batched call. B,T,D,H."
    )
    return Result("vmap over examples", about, "batched", rows, facts, chart="ratio")


def _differentiated(forward: Callable[..., jax.Array], wanted: int | tuple[int, int] = (0, 1)) -> Callable[..., Any]:
    return jax.value_and_grad(lambda leaves, x: loss(forward(leaves, x)), argnums=wanted)


def weight_gradients(text: str, problem: Problem) -> str:
    """Return the shapes in an optimised program with a recurrent weight per example: axes B, H, 4, H or B, H, 4H.

    Shapes with a further axis (T) are found too. If two sizes are equal, shapes are ambiguous.
    """
    B, H = problem.B, problem.H
    if len({1, 4, B, problem.T, problem.D, H, 4 * H}) < 7:
        return "not looked for: at these B,T,D,H shapes are ambiguous"
    found: dict[str, None] = {}
    for shape in DIMENSIONS.findall(text):
        sizes = Counter(int(size) for size in shape.split(","))
        if any(Counter(wanted) <= sizes for wanted in ((B, H, 4, H), (B, H, 4 * H))):
            found[f"[{shape}]"] = None
    return ", ".join(found) or "none"


def length(plan: Plan) -> Result:
    """Measure the time per step as T grows."""
    rows: list[Row] = []
    for T in LENGTHS:
        problem = Problem(1, T, 32, 32, dtype=plan.dtype)
        plan.say(f"length: {problem.case}")
        params, x = example(problem)
        chosen = [c for c in plan.contenders if c.name in ("jlstm", "jlstm-scan", "hand-written")]
        built = [prepare(contender, problem, params) for contender in chosen]
        for mode in MODES:
            entries = {ready.name: entry(ready.functions[mode], ready.leaves, x) for ready in built}
            rows += plan.rows(f"T = {T}", f"{mode}, a step", entries, per=T)
    facts = {}
    for mode in MODES:
        for name in dict.fromkeys(row.name for row in rows):
            times = {
                row.case: row.summary.median for row in rows if row.name == name and row.mode.startswith(f"{mode},")
            }
            first, last = (f"T = {T}" for T in (LENGTHS[1], LENGTHS[-1]))
            growth = times[last] / times[first]
            facts[f"{mode}, {name}: time a step at {last} over that at {first}"] = f"{growth:.2f} (1 is linear growth)"
    about = "Time of a call divided by T, B = 1, D = H = 32, and the ratio to jlstm."
    return Result("Growth with the length", about, JLSTM.name, rows, facts, chart="time")


def checkpoint(plan: Plan) -> Result:
    """Measure memory and time of the gradient with `checkpoint_every`."""
    rows: list[Row] = []
    facts = {}
    name = f"checkpoint_every={EVERY}"
    for B, D, H in ((1, 32, 32), (8, 32, 64)):
        problem = Problem(B, LONG, D, H, dtype=plan.dtype)
        plan.say(f"checkpoint: {problem.case}")
        cell = jlstm.LSTM(H, param_dtype=plan.dtype)
        (params,), x = example(problem)

        plain_last, chunked_last = (functools.partial(_last, cell, every) for every in (None, EVERY))
        for mode, wanted in (("gradient by parameters", 0), ("gradient by parameters and x", (0, 1))):
            plainly, chunks = (_differentiated(f, wanted) for f in (plain_last, chunked_last))
            entries = {
                "plain": entry(plainly, params, x),
                "plain again (A/A)": entry(plainly, params, x),
                name: entry(chunks, params, x),
            }
            compare(name, {"result": entries[name].call()}, {"result": entries["plain"].call()}, plan.dtype)
            rows += plan.rows(problem.case, mode, entries)
            plain, chunked = (timing.temporaries(entries[n].program) for n in ("plain", name))
            if plain and chunked:
                facts[f"{mode}: temporaries, plain over {name}, at {problem.case}"] = round(plain / chunked, 1)
    about = (
        "The mean of the squares of the last output and its gradient with respect to the parameters, as in training, "
        f"and also to x, as above another layer; T = {LONG}: time, ratio to the plain gradient, temporaries. B,T,D,H."
    )
    return Result("Rematerialisation", about, "plain", rows, facts)


def _last(cell: jlstm.LSTM, every: int | None, params: jlstm.LSTMParams, x: jax.Array) -> jax.Array:
    return jlstm.unroll(cell, params, x, checkpoint_every=every)[1]


def retrace(plan: Plan) -> Result:
    """Count the traces and compilations of a second call with an equal, new cell."""
    plan.say("retrace")
    facts: dict[str, Any] = {}
    (params,), x = example(Problem(4, 20, 8, 16, dtype=plan.dtype))
    state = jlstm.LSTM(16, param_dtype=plan.dtype).initial_state(params, (4,))
    first, jitted = x[:, 0], jax.jit(jlstm.unroll)
    gradient = jax.jit(jax.grad(lambda params, cell: jnp.sum(jlstm.unroll(cell, params, x)[1])))
    calls: dict[str, Callable[[jlstm.LSTM], Any]] = {
        "unroll, eager": lambda cell: jlstm.unroll(cell, params, x),
        "unroll, in jit": lambda cell: jitted(cell, params, x),
        "gradient of unroll, in jit": lambda cell: gradient(params, cell),
        "step, eager": lambda cell: jlstm.step(cell, params, state, first),
    }
    bias = time.time()  # a hyper-parameter that no cell of this process had before; only `init` reads it
    for name, call in calls.items():
        once, again = (counted(call, jlstm.LSTM(16, forget_bias=bias, param_dtype=plan.dtype)) for _ in range(2))
        facts[name] = f"first call {once}; second call {again}"
    return Result("Calls with an equal cell", "Counted by jax's own events; the second cell is made anew.", facts=facts)


def counted(call: Callable[..., Any], *arguments: Any) -> str:
    """Count how often a call traces and compiles, from jax's own events."""
    seen: Counter[str] = Counter()

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        seen[event] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call(*arguments))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return f"{seen[TRACING]} traces, {seen[COMPILING]} compilations"
