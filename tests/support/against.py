"""Compare the library of the working tree with the one at another commit, number by number.

    python -m tests.support.against COMMIT        from the root of a checkout

Each library runs the same program in a process of its own, in float64: outputs, states and gradients of every net
below, what its `init` draws, and the converters. Parameters, states, inputs and keys come from fixed seeds in the order
of the leaves, so that no name of a type matters. A line is printed for each comparison. The exit code is 0 if all
numbers agree to 1e-12, relative to those above 1; what `init` draws and what is converted has to agree bit by bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm import convert
from jlstm.initializers import Chrono, Normal, Orthogonal, Uniform

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-12
B, T, D, H, VOCABULARY = 4, 6, 3, 4, 5
LSTM, GRU, SLSTM, MinLSTM = jlstm.LSTM, jlstm.GRU, jlstm.SLSTM, jlstm.MinLSTM
Stack, Two, Zoneout, DropConnect = jlstm.Stack, jlstm.Bidirectional, jlstm.Zoneout, jlstm.DropConnect

# ---- nets, and the ways they are run


def clip(cell: Any, limit: float = 0.4) -> Any:
    """The cell with its memory clipped, in either version's way; None where this version has none."""
    if any(field.name == "cell_clip" for field in dataclasses.fields(cell)):
        return dataclasses.replace(cell, cell_clip=limit)
    return jlstm.ClipState(cell, limit, "state") if hasattr(jlstm, "ClipState") else None


def clip_gates(cell: Any, limit: float = 0.7) -> Any:
    """The cell with what goes into its gates clipped, in either version's way."""
    return jlstm.ClipGates(cell, limit) if hasattr(jlstm, "ClipGates") else jlstm.ClipState(cell, limit, "gates")


RAGGED: dict[str, Any] = dict(lengths=True, mask=True, resets=True)
ROWS: dict[str, dict[str, Any]] = {
    "scan": dict(RAGGED, backend="scan", state=True, return_sequences=True),
    "back": dict(RAGGED, backend="hoisted", state=True, reverse=True),
    "chunks": dict(RAGGED, backend="hoisted", key=True, return_sequences=True, checkpoint_every=4),
    "noise": dict(backend="scan", state=True, key=True, truncate_every=2, scan_unroll=2),
    "parallel": dict(RAGGED, backend="associative", state=True, return_sequences=True, reverse=True),
    "forward": dict(gradient=False, return_sequences=True),  # the path of inference
}
CELL, NOISY, FEW = ("scan", "back", "chunks", "forward"), ("scan", "back", "chunks", "noise"), ("back", "chunks")
LEARNED, BARE = dict(learn_initial_state=True), dict(use_bias=False, activation="sigmoid", gate_activation="tanh")
CELLS: dict[str, Any] = {
    "lstm": LSTM(H),
    "lstm-learned": LSTM(H, forget_bias=Chrono(20), **LEARNED),
    "lstm-bare": LSTM(H, use_bias=False, activation="softsign", gate_activation="hard_sigmoid"),
    "lstm-softmax": LSTM(H, activation=jax.nn.softmax, w_ih_init=Uniform(0.1), w_hh_init=Normal(0.5)),
    "peephole": jlstm.PeepholeLSTM(H, p_init=Normal(0.2), forget_bias=2.0, **LEARNED),
    "coupled": jlstm.CoupledLSTM(H, **LEARNED),
    "projected": jlstm.ProjectedLSTM(H, 2, w_hr_init=Orthogonal(0.5), **LEARNED),
    "gru": GRU(H, **LEARNED),
    "gru-before": GRU(H, reset_after=False, update_bias=1.0, **LEARNED),
    "layer-norm": jlstm.LayerNormLSTM(H, epsilon=1e-3, **LEARNED),
    "slstm": SLSTM(H, heads=2, **LEARNED),
    "slstm-exp": SLSTM(H, heads=2, forget_gate="exp"),
    "min-lstm": MinLSTM(H, **LEARNED),
    "original": jlstm.OriginalLSTM(H, block_size=2, **LEARNED),
    "original-truncated": jlstm.OriginalLSTM(H, block_size=2, truncated_gradient=True, output_bias=-1.0),
}
VARIANTS: dict[str, Any] = {
    "lstm-bfloat16": LSTM(H, param_dtype="bfloat16"),
    "lstm-float64": LSTM(H, param_dtype=jnp.float64, compute_dtype=np.dtype("float64")),
    "projected-bare": jlstm.ProjectedLSTM(H, 6, **BARE),
    "gru-before-bare": GRU(H, reset_after=False, **BARE),
    "min-lstm-bare": MinLSTM(H, use_bias=False, activation="sigmoid"),
    "original-bare": jlstm.OriginalLSTM(H, use_bias=False),
}
OTHERS = dict(peephole=jlstm.PeepholeLSTM, coupled=jlstm.CoupledLSTM, norm=jlstm.LayerNormLSTM, gru=GRU, slstm=SLSTM)
VARIANTS |= {f"{name}-bare": cell(H, **BARE) for name, cell in OTHERS.items()}
WRAPPED: dict[str, Any] = {
    "zoneout": Zoneout(LSTM(H), 0.2, 0.4),
    "zoneout-projected": Zoneout(jlstm.ProjectedLSTM(H, 2), 0.2, 0.4),
    "zoneout-gru": Zoneout(GRU(H), 0.3),
    "zoneout-slstm": Zoneout(SLSTM(H, heads=2), 0.2, 0.4),
    "zoneout-slstm-h": Zoneout(SLSTM(H), 0.3),
    "zoneout-min-lstm": Zoneout(MinLSTM(H), 0.3),
    "drop-connect": DropConnect(LSTM(H, **LEARNED), 0.3),
    "drop-connect-gru": DropConnect(GRU(H, reset_after=False), 0.3),
    "variational": jlstm.VariationalDropout(LSTM(H), 0.3, 0.4),
    "variational-slstm": jlstm.VariationalDropout(SLSTM(H, heads=2), 0.0, 0.4),
    "nested": jlstm.VariationalDropout(DropConnect(Zoneout(jlstm.PeepholeLSTM(H), 0.2, 0.4), 0.3), 0.3, 0.4),
    "nested-clips": Zoneout(DropConnect(clip_gates(clip(LSTM(H))), 0.3), 0.2, 0.4),
    "clip-zoneout": clip(Zoneout(LSTM(H), 0.2, 0.4)),
    "clip-drop-connect": clip(DropConnect(LSTM(H), 0.3)),
}
FAMILY = "lstm-learned", "lstm-softmax", "peephole", "coupled", "projected", "layer-norm", "original"
CLIPPED = {f"clip-{name}": clip(CELLS[name]) for name in FAMILY}
CLIPPED |= {f"clip-gates-{name}": clip_gates(CELLS[name]) for name in ("lstm", "peephole", "gru", "min-lstm")}
LAYERS: dict[str, Any] = {
    "stack-embed": Stack((jlstm.Embed(VOCABULARY, D), jlstm.Residual(LSTM(D)), jlstm.Dense(2))),
    "stack-two": Stack((Two(Zoneout(LSTM(H), 0.3)), jlstm.Dropout(0.4), MinLSTM(H))),
    "residual": jlstm.Residual(DropConnect(jlstm.LayerNormLSTM(D), 0.3)),
}
MERGES = "concat", "sum", "mul", "mean", "none"
LAYERS |= {f"two-{merge}": Two(LSTM(H), jlstm.CoupledLSTM(H), merge=merge) for merge in MERGES}
NETS: dict[str, tuple[Any, tuple[str, ...]]] = {
    **{name: (net, CELL) for name, net in CELLS.items()},
    **{name: (net, ("back",)) for name, net in VARIANTS.items()},
    **{name: (net, NOISY) for name, net in WRAPPED.items()},
    **{name: (net, FEW) for name, net in (CLIPPED | LAYERS).items()},
    "min-lstm": (CELLS["min-lstm"], (*CELL, "parallel")),
    "stack": (Stack((LSTM(H), jlstm.Dropout(0.4), GRU(H), jlstm.Dense(2, activation="tanh"))), NOISY),
}

_MEAN = "without a key, a mean of several fields that are one number is refused: ValueError"
_INSIDE = "the memory is clipped by cells of the LSTM family alone, and wrappers go around them"
EXCEPTIONS: dict[str, tuple[tuple[str, ...], str]] = {  # name -> (what is not compared, why)
    "zoneout-slstm": (("scan", "back"), _MEAN),
    "zoneout-min-lstm": (("scan", "back"), _MEAN),
    "clip-zoneout": (("init", *NOISY), _INSIDE),
    "clip-drop-connect": (("init", *NOISY), _INSIDE),
}

CONVERTED: dict[str, tuple[Any, ...]] = {
    "torch": (LSTM(H), Stack((Two(LSTM(H)), Two(LSTM(H)))), jlstm.ProjectedLSTM(H, 2), GRU(H)),
    "keras": (LSTM(H), LSTM(H, use_bias=False), Two(LSTM(H)), GRU(H), GRU(H, reset_after=False)),
    **dict.fromkeys(("flax", "haiku", "equinox"), (LSTM(H),)),
    "onnx": (LSTM(H, **LEARNED), jlstm.PeepholeLSTM(H), Two(jlstm.CoupledLSTM(H)), clip_gates(LSTM(H))),
}


def converted(framework: str, net: Any) -> Any:
    """Return the weights that a framework gets of a net, in each of its forms, and the parameters read from them."""
    params, forms = params_of(net, 0), [dict(kind=kind) for kind in ("linen", "nnx", "nnx_optimized")]
    write, read = getattr(convert, f"to_{framework}"), getattr(convert, f"from_{framework}")
    if framework == "onnx":
        with tempfile.TemporaryDirectory() as folder:
            write(net, params, path := f"{folder}/net.onnx")
            return read(path)[1]
    theirs = [write(net, params, **form) for form in (forms if framework == "flax" else [{}])]
    of = dict(reset_after=net.reset_after) if framework == "keras" and isinstance(net, GRU) else {}
    return theirs, [read(weights, **of)[1] for weights in theirs]


# ---- one side: the program


def filled(rng: np.random.Generator, like: Any) -> Any:
    """The tree with random float64 in place of its leaves, in their order."""

    def leaf(path: Any, a: Any) -> np.ndarray:
        drawn = 0.8 * rng.normal(size=a.shape)
        # A weighted mean's sum of weights, the sLSTM's n, is 1 at least.
        return 1 + abs(drawn) if jax.tree_util.keystr(path).endswith(".n") else drawn

    return jax.tree_util.tree_map_with_path(leaf, like)


def drawn(net: Any, seed: int, _: Any = None) -> Any:
    return net.init(jax.random.key(seed), D if net.feature_axes else None)


def params_of(net: Any, seed: int) -> Any:
    return filled(np.random.default_rng(seed), jax.eval_shape(lambda: drawn(net, 0)))


def run(net: Any, seed: int, options: dict[str, Any]) -> Any:
    """The final state and the outputs of one call, and the gradients by params, inputs and state."""
    options, rng, params = dict(options), np.random.default_rng(seed), params_of(net, seed)
    x = rng.normal(size=(B, T, D)) if net.feature_axes else rng.integers(0, VOCABULARY, (B, T))
    uniform = rng.random((2, B, T))
    given = dict(lengths=np.array([T, T // 2, 0, T + 2]), mask=uniform[0] < 0.7, resets=uniform[1] < 0.3)
    options |= {name: value for name, value in given.items() if options.get(name)}
    options |= dict(key=jax.random.key(seed)) if "key" in options else {}
    start, gradient = options.pop("state", False), options.pop("gradient", True)
    state = filled(rng, jax.eval_shape(lambda p: net.initial_state(p, (B,)), params))

    def call(params: Any, x: Any, state: Any) -> Any:
        return jlstm.unroll(net, params, x, state=state if start else None, **options)

    if not gradient:
        return jax.jit(call)(params, x, state)
    directions = filled(rng, jax.eval_shape(call, params, x, state))

    def scalar(params: Any, x: Any, state: Any) -> Any:
        result = call(params, x, state)
        return sum(map(jnp.vdot, jax.tree.leaves(directions), jax.tree.leaves(result))), result

    wanted = (0, 1, 2) if net.feature_axes else (0, 2)
    (_, result), gradients = jax.jit(jax.value_and_grad(scalar, wanted, has_aux=True))(params, x, state)
    return result, gradients


def side(folder: Path) -> None:
    """Run everything by the library in `folder`, and leave the numbers there."""
    assert Path(jlstm.__file__).is_relative_to(folder), jlstm.__file__
    jax.config.update("jax_enable_x64", True)
    hoisted = sys.modules["jlstm.kernels.hoisted"]
    carried, found = hoisted.CARRIED, {}

    def keep(name: str, what: str, make: Callable[..., Any], *args: Any) -> None:
        try:
            leaves = [np.asarray(a) for a in jax.tree.leaves(make(*args))]
        except Exception as error:
            found[f"{name}|{what}|error"] = np.asarray(f"{type(error).__name__}: {' '.join(str(error).split())}"[:160])
            return
        for n, a in enumerate(leaves):  # NumPy's files know no bfloat16
            found[f"{name}|{what}|{n} {a.dtype}{a.shape}"] = a.astype("float32") if a.dtype == jnp.bfloat16 else a

    for name, (net, rows) in NETS.items():
        excepted, _ = EXCEPTIONS.get(name, ((), ""))
        for row in [row for row in ("init", *rows) if row not in excepted]:
            hoisted.CARRIED = 0 if row == "chunks" else carried  # 0: gradients are made as for large parameters
            keep(name, row, drawn if row == "init" else run, net, zlib.crc32(name.encode()), ROWS.get(row))
    for framework, nets in CONVERTED.items():
        for n, net in enumerate(nets):
            keep(framework, f"converted, {n}", converted, framework, net)
    np.savez(folder / "found.npz", **found)


# ---- both sides


def difference(name: str, what: str, old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> tuple[bool, str]:
    """Return (True if two sets of leaves agree, by how much they differ in words)."""
    for leaves, when in ((old, "before"), (new, "now")):
        if "error" in leaves:
            return False, f"{when}: {leaves['error']}"
    if old.keys() != new.keys():
        return False, f"other leaves: {sorted(old.keys() ^ new.keys())}"[:160]
    if all(old[key].tobytes() == new[key].tobytes() for key in old):
        return True, "bitwise"
    pairs = [(np.asarray(old[key], float), np.asarray(new[key], float)) for key in old]
    off = [np.where((a == b) | np.isnan(a) & np.isnan(b), 0.0, abs(a - b)) for a, b in pairs]
    close = all((d <= TOLERANCE * np.maximum(1.0, abs(a))).all() for d, (a, _) in zip(off, pairs, strict=True))
    exact = what == "init" or name not in NETS
    return close and not exact, f"{max(d.max(initial=0.0) for d in off):.1e}" + " (bitwise is asked)" * exact


def report(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> int:
    """Print the table; returns how many rows are wrong."""

    rows: dict[str, tuple[dict[str, np.ndarray], ...]] = {}
    for n, found in enumerate((old, new)):
        for key, array in found.items():
            row, leaf = key.rsplit("|", 1)
            rows.setdefault(row, ({}, {}))[n][leaf] = array
    wrong = 0
    for row, leaves in rows.items():
        agrees, words = difference(*row.split("|"), *leaves)
        wrong += not agrees
        print(f"{'' if agrees else 'WRONG':6}{'{:20}  {:12}'.format(*row.split('|'))}  {words}")
    for name, what, why in [(name, what, why) for name, (whats, why) in EXCEPTIONS.items() for what in whats]:
        print(f"{'':6}{name:20}  {what:12}  not compared: {why}")
    print(f"{wrong} of {len(rows)} wrong")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.support.against", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commit", metavar="COMMIT")
    commit = parser.parse_args().commit
    archive = subprocess.run(["git", "archive", commit, "jlstm"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        print(f"against: COMMIT: expected a commit that holds jlstm, got {commit!r}.", file=sys.stderr)
        return 2
    flags = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    if jax.__version_info__ < (0, 11):
        flags += " --xla_cpu_use_fusion_emitters=false"  # a later XLA ends the process that names it
    with tempfile.TemporaryDirectory() as folder:
        sides = [Path(folder, name) for name in ("before", "now")]
        sides[0].mkdir()
        subprocess.run(["tar", "-x", "-C", sides[0]], input=archive.stdout, check=True)
        shutil.copytree(ROOT / "jlstm", sides[1] / "jlstm", ignore=shutil.ignore_patterns("__pycache__"))
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        commands = [([sys.executable, __file__, "--side", path], env | {"PYTHONPATH": str(path)}) for path in sides]
        processes = [subprocess.Popen(command, env=env) for command, env in commands]
        if sum(process.wait() != 0 for process in processes):
            return 1
        old, new = (dict(np.load(path / "found.npz")) for path in sides)
    return 1 if report(old, new) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(Path(sys.argv[2]))
    else:
        sys.exit(main())
