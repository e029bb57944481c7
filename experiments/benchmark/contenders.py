"""The table of contenders. Every contender is built from the same parameters and must give the same numbers.

A contender is `(params, x) -> outputs`: x `[B, T, D]`, outputs `[B, T, H]` (all steps), batch first, as its users
call it. `convert` makes the contender's own params from one `LSTMParams` per layer or direction. The derivative of
`convert` maps the contender's gradients back to `LSTMParams`, where they are compared.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from experiments.benchmark import peers
from experiments.benchmark.problem import Net, Problem, Program

MODES = ("forward", "forward+backward")
NETS: tuple[Net, ...] = get_args(Net)
AGAIN = "jlstm again (A/A)"
# Correctness is checked in float32. bfloat16 has 8 bits, and T steps add their roundings.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1}


class Contender(NamedTuple):
    """A contender. module: its import name, "" for none.   install: the argument of pip install if it is missing.

    build: makes the program; None for torch, which runs in its own process.   nets: the nets it is raced on.
    """

    name: str
    module: str
    install: str
    build: Callable[[Problem], Program] | None
    nets: tuple[Net, ...] = NETS


class DisagreementError(Exception):
    """A contender computes other numbers. It is not timed."""


def ours(backend: Any = None) -> Callable[[Problem], Program]:
    """Return the builder of `jlstm.unroll`."""

    def build(problem: Problem) -> Program:
        net = our_net(problem)
        tree = jax.tree.structure(jax.eval_shape(lambda key: net.init(key, problem.D), jax.random.key(0)))
        return Program(
            convert=lambda params: jax.tree.unflatten(tree, jax.tree.leaves(params)),
            forward=lambda params, x: jlstm.unroll(net, params, x, return_sequences=True, backend=backend)[1],
        )

    return build


def our_net(problem: Problem) -> Any:
    """Return the jlstm net of a problem."""
    cell = jlstm.LSTM(problem.H, param_dtype=problem.dtype)
    match problem.net:
        case "lstm":
            return cell
        case "bidirectional":
            return jlstm.Bidirectional(cell)
        case "stack":
            return jlstm.Stack((cell, cell))


CONTENDERS = (
    Contender("jlstm", "", "", ours()),
    Contender("jlstm-hoisted", "", "", ours("hoisted")),
    Contender("jlstm-scan", "", "", ours("scan")),
    Contender("hand-written", "", "", peers.hand_written),
    Contender("flax-nnx", "flax.nnx", "flax", peers.flax_nnx),
    Contender("keras", "keras", "keras", peers.keras),
    Contender("equinox", "equinox", "equinox", peers.equinox, ("lstm",)),
    Contender("haiku", "haiku", "dm-haiku", peers.haiku, ("lstm",)),
    Contender("torch", "torch", "torch==2.13.0", None),
)


def missing(contender: Contender) -> str | None:
    """Return one line with the reason if a contender cannot run here, else None."""
    try:
        if contender.build is None:
            # torch is never imported here: its threads would slow the contenders after it.
            if importlib.util.find_spec(contender.module) is None:
                raise ModuleNotFoundError(f"No module named {contender.module!r}")
            if jax.default_backend() != "cpu":
                return f"{contender.name}: left out: its round is on the CPU, this one on {jax.default_backend()}."
        elif contender.module:
            importlib.import_module(contender.module)
    except Exception as error:  # an installed peer may fail with this jax; the others still run
        return f"{contender.name}: left out: {error}. Type pip install {contender.install}"
    return None


def example(problem: Problem, seed: int = 0) -> tuple[tuple[jlstm.LSTMParams, ...], jax.Array]:
    """Return (one `LSTMParams` per layer or direction, x `[B, T, D]`), random. Random biases distinguish the gates."""
    key_x, *keys = jax.random.split(jax.random.key(seed), 3)
    sizes = {"lstm": (problem.D,), "bidirectional": (problem.D,) * 2, "stack": (problem.D, problem.H)}[problem.net]
    cell = jlstm.LSTM(problem.H, param_dtype=problem.dtype)
    layers = []
    for key, D in zip(keys, sizes, strict=False):
        params = cell.init(key, D)
        noise = 0.3 * jax.random.normal(key, params.w_hh.shape[1:], problem.dtype)
        layers.append(params._replace(b=noise if params.b is None else params.b + noise))
    return tuple(layers), jax.random.normal(key_x, (problem.B, problem.T, problem.D), problem.dtype)


def loss(y: jax.Array) -> jax.Array:
    """Return the mean of the squares of all outputs, which is differentiated."""
    return jnp.mean(jnp.square(y.astype(jnp.float32)))


class Ready(NamedTuple):
    """A contender built for a problem. functions: by mode, of (leaves, x), not jitted.   pull: maps gradients of the
    leaves to gradients of `LSTMParams`."""

    name: str
    leaves: list[jax.Array]
    functions: dict[str, Callable[..., Any]]
    pull: Callable[[Sequence[Any]], Any]


def prepare(contender: Contender, problem: Problem, params: tuple[jlstm.LSTMParams, ...]) -> Ready:
    """Build a contender whose parameters are a flat list of arrays, so no framework's own containers are timed."""
    assert contender.build is not None
    program = contender.build(problem)
    converted, pullback = jax.vjp(lambda p: jax.tree.leaves(program.convert(p)), params)
    tree = jax.tree.structure(program.convert(params))

    def forward(leaves: Sequence[jax.Array], x: jax.Array) -> jax.Array:
        return program.forward(jax.tree.unflatten(tree, leaves), x)

    both = jax.value_and_grad(lambda leaves, x: loss(forward(leaves, x)), argnums=(0, 1))
    return Ready(contender.name, converted, {"forward": forward, "forward+backward": both}, lambda g: pullback(g)[0])


def compare(name: str, got: Any, want: Any, dtype: str) -> None:
    """Raise `DisagreementError` with the worst array's name if got and want differ by more than `TOLERANCE`.

    got, want: dicts of trees of arrays. An array's error is its largest difference divided by its largest value.
    """
    if jax.tree.structure(got) != jax.tree.structure(want):
        raise DisagreementError(f"{name}: refused: it gives other arrays than jlstm.")
    worst, where = 0.0, ""
    for (path, b), a in zip(jax.tree_util.tree_leaves_with_path(want), jax.tree.leaves(got), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            raise DisagreementError(f"{name}: refused: {jax.tree_util.keystr(path)} is {a.shape}, jlstm's {b.shape}.")
        error = float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1.0))  # w_hh's gradient is 0 where T is 1
        if not error <= worst:  # NaN is the worst
            worst, where = error, jax.tree_util.keystr(path)
    if not worst <= TOLERANCE[dtype]:
        raise DisagreementError(
            f"{name}: refused: {where} differs from jlstm's by {worst:.1e} of its largest value, "
            f"{TOLERANCE[dtype]:.0e} is allowed."
        )


def numbers(ready: Ready, x: jax.Array, programs: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the numbers to compare: outputs, and the gradients with respect to the `LSTMParams` and x."""
    _, (leaves, dx) = programs["forward+backward"](ready.leaves, x)
    return {"outputs": programs["forward"](ready.leaves, x), "gradients": ready.pull(leaves), "gradient of x": dx}
