"""Programs that are exported with symbolic sizes compute as the jitted call does, for every net and option."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cases
import covering
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from small import equal, total

import jlstm

B, T = 4, 5
GIVEN = "lengths", "mask", "resets", "state"
FACTORS: dict[str, tuple[Any, ...]] = {name: cases.OPTIONS[name] for name in (*GIVEN, "reverse", "return_sequences")}
FACTORS |= {name: cases.OPTIONS[name] for name in ("time_major", "key", "checkpoint_every")}
FACTORS |= dict(truncate_every=(None, 2), backend=cases.BACKENDS, sizes=("b, T", "b", "T"))
ROWS = (*cases.ROWS, *cases.VARIANTS)
PAIRS = [(choice.pop("row"), choice) for choice in covering.sample(FACTORS | {"row": ROWS})]


def label(case: tuple[str, dict[str, Any]]) -> str:
    return covering.label({"row": case[0], **case[1]})


def exported(f: Any, arguments: Any, symbolic: Any) -> Any:
    """f's call after an export in which the arguments have the sizes of `symbolic`, a tree of shapes."""
    like = jax.tree.map(lambda a, shape: jax.ShapeDtypeStruct(shape, a.dtype), arguments, symbolic)
    return export.deserialize(export.export(jax.jit(f))(*like).serialize()).call


def flat(f: Any, *trees: Any) -> tuple[Any, Any]:
    """f of a list of arrays, and the arrays: a serialised program takes no classes of a test."""
    arrays, tree = jax.tree.flatten(trees)
    arrays = [a.astype("int32") if a.dtype == "int64" else a for a in arrays]  # no 64 bits here
    return lambda *arrays: jax.tree.leaves(f(*tree.unflatten(arrays))), arrays


@pytest.mark.parametrize("case", covering.thinned(PAIRS, 40), ids=label)
def test_unroll_with_symbolic_sizes(case: tuple[str, dict[str, Any]]) -> None:
    """The values, and the gradients by params, inputs and state."""
    row, options = case[0], dict(case[1])
    net, rng, sizes = (cases.ROWS | cases.VARIANTS)[row], np.random.default_rng(0), options.pop("sizes")
    params = cases.random_params(rng, net, "float32")
    masks, state = cases.random_options(rng, (B,), T), cases.random_state(rng, net, params, (B,))
    masks["lengths"] = masks["lengths"].astype("int32")
    given = {"inputs": cases.random_inputs(rng, net, (B, T), "float32"), **masks, "state": state}
    given = {name: a for name, a in given.items() if name == "inputs" or options.pop(name)}
    if options["time_major"]:
        given |= {name: np.swapaxes(given[name], 0, 1) for name in ("inputs", "mask", "resets") if name in given}
    key = jax.random.key(1) if options.pop("key") else None

    def f(params: Any, given: Any) -> Any:
        return jlstm.unroll(net, params, **given, key=key, **options)

    def both(params: Any, given: Any) -> Any:
        floats, others = (
            {n: a for n, a in given.items() if (n == "state" or is_float(a)) == kind} for kind in (True, False)
        )
        of = jax.grad(lambda params, floats: total(*f(params, floats | others)), (0, 1), allow_int=True)
        gradients = [a for a in jax.tree.leaves(of(params, floats)) if a.dtype != jax.dtypes.float0]
        return f(params, given), gradients

    b, t = export.symbolic_shape("b, T")
    b, t = b if "b" in sizes else B, t if "T" in sizes else T
    leading = (t, b) if options["time_major"] else (b, t)

    def sized(path: Any, a: Any) -> Any:
        if path[0].idx == 0:  # params
            return a.shape
        return {"lengths": (b,), "state": (b, *a.shape[1:])}.get(path[1].key, leading + a.shape[2:])

    call, arrays = flat(both, params, given)
    symbolic = [sized(path, a) for path, a in jax.tree_util.tree_flatten_with_path((params, given))[0]]
    equal(exported(call, arrays, symbolic)(*arrays), jax.jit(call)(*arrays), 2e-5)


def is_float(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jnp.floating)


@pytest.mark.parametrize("rows", covering.thinned([cases.ONE_WAY[n::7] for n in range(7)], 7), ids="+".join)
def test_step_with_a_symbolic_batch(rows: tuple[str, ...]) -> None:
    """All of it in one program: the new state, y, and the gradient."""
    rng, (b,) = np.random.default_rng(0), export.symbolic_shape("b")
    nets = [cases.ROWS[row] for row in rows]
    params = [cases.random_params(rng, net, "float32") for net in nets]
    states = [cases.random_state(rng, net, p, (B,)) for net, p in zip(nets, params, strict=True)]
    xs = [cases.random_inputs(rng, net, (B,), "float32") for net in nets]
    masks = rng.random((2, B)) < 0.5

    def f(params: Any, states: Any, xs: Any, reset: Any, mask: Any) -> Any:
        def loss(params: Any) -> Any:
            options = dict(reset=reset, mask=mask, key=jax.random.key(0), t=3)
            found = [jlstm.step(net, p, s, x, **options) for net, p, s, x in zip(nets, params, states, xs, strict=True)]
            return sum(total(*one) for one in found), found

        gradients, found = jax.grad(loss, has_aux=True)(params)
        return found, gradients

    call, arrays = flat(f, params, states, xs, *masks)
    fixed = len(jax.tree.leaves(params))
    shapes = [a.shape if n < fixed else (b, *a.shape[1:]) for n, a in enumerate(arrays)]
    equal(exported(call, arrays, shapes)(*arrays), jax.jit(call)(*arrays), 2e-5)


def test_a_program_with_an_old_size_serves_many() -> None:
    """One program takes any batch and any T of at least 1, and its net's own types."""
    net = jlstm.Stack((jlstm.Bidirectional(jlstm.LSTM(4)), jlstm.Zoneout(jlstm.GRU(4), 0.1), jlstm.Dense(2)))
    params, (b, t) = cases.seeded(net), export.symbolic_shape("b, T")
    f = jax.jit(lambda params, x, n: jlstm.unroll(net, params, x, lengths=n, return_sequences=True))
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)
    made = export.export(f)(like, jax.ShapeDtypeStruct((b, t, 3), "float32"), jax.ShapeDtypeStruct((b,), "int32"))
    program = export.deserialize(made.serialize())
    for shape in ((1, 1), (3, 2), (2, 9)):
        x, lengths = np.random.default_rng(0).normal(size=(*shape, 3)).astype("float32"), np.full(shape[0], 2, "int32")
        equal(program.call(params, x, lengths), f(params, x, lengths), 1e-5)


@pytest.mark.parametrize(
    "net, options, argument",
    [
        (jlstm.LSTM(4), dict(scan_unroll=2), "scan_unroll: "),
        (jlstm.MinLSTM(4), dict(backend="associative"), "backend: 'associative' "),
    ],
)
def test_limits_of_a_symbolic_length(net: Any, options: Any, argument: str) -> None:
    f = jax.jit(lambda x: jlstm.unroll(net, cases.seeded(net), x, **options))
    with pytest.raises(NotImplementedError, match=f"^unroll: {argument}.* Type "):
        export.export(f)(jax.ShapeDtypeStruct((2, *export.symbolic_shape("T"), 3), "float32"))
    export.export(f)(jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 5, 3), "float32"))


PROGRAM = """
import sys, numpy as np, jax, jlstm
from jax import export
program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
given = np.load(sys.argv[2])
state, y = program.call(*(given[name] for name in ("x", "lengths")))
assert program.platforms == ("cpu", "cuda", "tpu") and type(state) is jlstm.LSTMState
np.testing.assert_allclose(y, given["y"], atol=1e-6)
"""


def test_a_fresh_process_calls_a_program_for_many_platforms(tmp_path: Any) -> None:
    cell, (b, t) = jlstm.LSTM(4), export.symbolic_shape("b, T")
    params = cases.seeded(cell)
    f = jax.jit(lambda x, lengths: jlstm.unroll(cell, params, x, lengths=lengths))
    like = jax.ShapeDtypeStruct((b, t, 3), "float32"), jax.ShapeDtypeStruct((b,), "int32")
    made = export.export(f, platforms=("cpu", "cuda", "tpu"))(*like)
    (tmp_path / "program").write_bytes(made.serialize())
    x, lengths = np.ones((3, 7, 3), "float32"), np.array([7, 2, 0], "int32")
    np.savez(tmp_path / "given.npz", x=x, lengths=lengths, y=f(x, lengths)[1])
    command = [sys.executable, "-c", PROGRAM, tmp_path / "program", tmp_path / "given.npz"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
