"""`save` and `load`: equal nets, bitwise equal parameters, and what cannot be saved."""

import dataclasses
import hashlib
import inspect
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jlstm
from jlstm import files
from jlstm.initializers import Chrono, Normal, Orthogonal, Uniform

LSTM, Stack, Bidirectional = jlstm.LSTM, jlstm.Stack, jlstm.Bidirectional

TWO_WAYS = Bidirectional(LSTM(3), Stack((LSTM(2, param_dtype="bfloat16"),)))
DEEP = Stack((jlstm.Embed(11, 4), jlstm.Residual(LSTM(4)), jlstm.Dropout(0.1), TWO_WAYS, jlstm.Dense(2)))

OPTIONS: Any = dict(activation="softsign", gate_activation=jax.nn.hard_sigmoid, forget_bias=Chrono(99.0))
OPTIONS |= dict(w_ih_init=Uniform(0.1), w_hh_init=Orthogonal(0.5), learn_initial_state=True)
CELLS = [
    jlstm.PeepholeLSTM(3, p_init=Normal(0.1)),
    jlstm.CoupledLSTM(3, forget_bias=2.0),
    jlstm.ProjectedLSTM(4, 3, w_hr_init=Normal(0.1)),
    jlstm.GRU(3, reset_after=False, update_bias=1.0),
    jlstm.LayerNormLSTM(3, epsilon=1e-3),
    jlstm.SLSTM(4, heads=2, forget_gate="exp"),
    jlstm.MinLSTM(3),
    jlstm.OriginalLSTM(4, block_size=2, truncated_gradient=True),
]


def two_ways(cell: Any) -> Any:
    cell = dataclasses.replace(cell, learn_initial_state=True, compute_dtype="bfloat16")
    return Stack((Bidirectional(cell), jlstm.Dense(2)))


# name -> (net, input_size)
NETS: dict[str, tuple[Any, int | None]] = {
    "float32": (LSTM(5), 3),
    "bfloat16": (LSTM(5, param_dtype="bfloat16", compute_dtype=jnp.bfloat16), 3),
    "float16": (LSTM(2, param_dtype=np.float16), 3),
    "float64": (LSTM(2, param_dtype="float64"), 3),
    "options": (LSTM(4, **OPTIONS), 2),
    "no bias": (Stack((LSTM(3, use_bias=False), jlstm.Dense(1, use_bias=False))), 1),
    "direction": (Bidirectional(LSTM(3), merge="sum"), 2),
    "stack": (DEEP, None),
    "empty": (jlstm.Dropout(0.5), 3),
    **{type(cell).__name__: (two_ways(cell), 3) for cell in CELLS},
}


class ScaledParams(NamedTuple):
    w: Any
    table: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Halves:
    """An initialiser of the user's own."""

    scale: float = 0.5

    def __call__(self, key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jnp.full(shape, self.scale, dtype)


@jlstm.record
class Scaled(jlstm.Cell):
    """A cell of the user's own, with parameters, an initialiser and fields of every kind."""

    size: int
    w_init: Any = Halves()
    extra: Any = (1, -0.0, float("inf"), "é\n", None, True, (), np.dtype("int8"))

    def init(self, key: Any, input_size: int) -> ScaledParams:
        return ScaledParams(self.w_init(key, (input_size, self.size), "float32"), {"a": jnp.arange(3)})

    def output_size(self, input_size: int) -> int:
        return self.size

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*batch_shape, self.size))

    def project(self, params: Any, x: Any) -> Any:
        return x @ params.w

    def recur(self, params: Any, state: Any) -> Any:
        return state

    def update(self, params: Any, state: Any, z: Any) -> tuple[Any, Any]:
        return z, z


def random_params(net: Any, input_size: int | None) -> Any:
    """NumPy parameters of `net`; float64 ones, too, where x64 is off."""
    rng = np.random.default_rng(0)
    wide = getattr(net, "param_dtype", None) == "float64"
    narrow = dataclasses.replace(net, param_dtype="float32") if wide else net
    shapes = jax.eval_shape(lambda key: narrow.init(key, input_size), jax.random.key(0))
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float64 if wide else a.dtype), shapes)


def digest(net: Any, params: Any) -> str:
    """A hash of all that has to come back: the net's repr, the tree with its classes, dtypes, shapes and bytes."""
    leaves, structure = jax.tree.flatten(params)
    parts = [repr(net), str(structure)] + [f"{a.dtype} {a.shape} {np.asarray(a).tobytes().hex()}" for a in leaves]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def one_line_error(call: Callable[[], Any], *words: str, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind and "\n" not in message and len(message) < 500, message
    for word in words:
        assert word in message, (word, message)
    return message


# ---- round trips


@pytest.mark.parametrize("name", NETS)
def test_round_trip(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    net, _ = NETS[name]
    params = random_params(*NETS[name])
    if name == "float64":
        request.getfixturevalue("x64")
    path = tmp_path / "model.safetensors"
    jlstm.save(path, net, params)
    got, got_params = jlstm.load(path)
    assert got == net and hash(got) == hash(net) and type(got) is type(net)
    assert digest(got, got_params) == digest(net, params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got_params))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    first = path.read_bytes()
    jlstm.save(path, got, got_params)
    assert path.read_bytes() == first


def test_fresh_process(tmp_path: Path) -> None:
    expected = {}
    for name, (net, input_size) in NETS.items():
        params = random_params(net, input_size)
        jlstm.save(tmp_path / name, net, params)
        expected[name] = digest(net, params)
    imports = "import hashlib, json, pathlib, sys, jax, jlstm, numpy as np; from typing import Any"
    found = "{path.name: digest(*jlstm.load(path)) for path in pathlib.Path(sys.argv[1]).iterdir()}"
    program = f"{imports}\n{inspect.getsource(digest)}\nprint(json.dumps({found}))"
    root = str(Path(jlstm.__file__).parents[1])
    env = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_the_tensors_are_named_by_their_paths(tmp_path: Path) -> None:
    net = Stack((Bidirectional(LSTM(3)), jlstm.Dropout(0.1), jlstm.Dense(2)))
    params = random_params(net, 2)
    jlstm.save(tmp_path / "m", net, params)
    tensors = safetensors.numpy.load_file(tmp_path / "m")
    names = [f"0.{way}.{leaf}" for way in ("forward", "backward") for leaf in ("w_ih", "w_hh", "b")]
    assert sorted(tensors) == sorted([*names, "2.w", "2.b"])
    np.testing.assert_array_equal(tensors["0.backward.w_hh"], params[0].backward.w_hh)


def test_params_of_any_kind_and_place(tmp_path: Path) -> None:
    """Sharded, not contiguous, without elements, without axes; nested in every container."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    params = {
        "sharded": jax.device_put(jnp.arange(4.0 * len(jax.devices())), sharding),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "type": [np.float32(1.5), (None, {}, [], ()), np.zeros((0, 4, 2), np.float32), jnp.array([True, False])],
        "a.b": {"": jnp.array([jnp.nan, -0.0, jnp.inf]), "é": np.array([255], np.uint8)},
    }
    jlstm.save(tmp_path / "m", LSTM(1), params)
    _, got = jlstm.load(tmp_path / "m")
    assert digest(None, got) == digest(None, params)
    jlstm.save(tmp_path / "m", LSTM(1), np.int32(7))  # a tree that is one array
    assert jlstm.load(tmp_path / "m")[1] == 7


def test_classes_of_ones_own(tmp_path: Path) -> None:
    net = Stack((LSTM(2), Scaled(3)))
    params = (random_params(LSTM(2), 2), Scaled(3).init(None, 2))
    path = tmp_path / "m"
    jlstm.save(path, net, params)
    type_it = "load(path, types=(Halves, Scaled, ScaledParams))"
    one_line_error(lambda: jlstm.load(path), str(path), type_it)
    one_line_error(lambda: jlstm.load(path, types=(Scaled,)), "got Halves, ScaledParams", type_it)
    got, got_params = jlstm.load(path, types=[Scaled, ScaledParams, Halves])
    assert got == net and hash(got) == hash(net) and repr(got) == repr(net)
    assert digest(got, got_params) == digest(net, params)
    for types in (Scaled, (Scaled(3),), (int,), "Scaled"):
        one_line_error(lambda types=types: jlstm.load(path, types=types), "load: types: expected", kind=TypeError)


def test_a_class_of_ones_own_may_have_a_name_of_jlstms(tmp_path: Path) -> None:
    mine: Any = jlstm.record(type("LSTM", (Scaled,), {}))
    path = tmp_path / "m"
    jlstm.save(path, mine(3), ())
    one_line_error(lambda: jlstm.load(path), "got Halves, LSTM. Type load(path, types=(Halves, LSTM))")
    assert type(jlstm.load(path, types=(mine, Halves))[0]) is mine
    one_line_error(lambda: jlstm.save(path, Stack((LSTM(1), mine(3))), ()), "save: net.layers.1", "two of name LSTM")


# ---- what cannot be saved


@jlstm.record
class Doubling(Scaled):
    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 2 * self.size)


ZEROS: Any = jax.nn.initializers.zeros
SAVE_ERRORS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "function": (LSTM(1, activation=jnp.sin), (), ValueError, "net.activation: expected"),
    "function inside": (Stack((LSTM(1), LSTM(1, w_ih_init=ZEROS))), (), ValueError, "layers.1.w_ih_"),
    "list": (Scaled(1, extra=[1]), (), ValueError, "net.extra: expected a plain value"),
    "scalar type": (Scaled(1, extra=jnp.float32), (), ValueError, "net.extra: expected a plain value"),
    "numpy scalar": (Scaled(1, extra=(np.float32(1),)), (), ValueError, "net.extra.0: expected a plain value"),
    "byte order": (Scaled(1, extra=np.dtype(">f4")), (), ValueError, "net.extra: expected a plain value"),
    "nan": (Scaled(1, extra=float("nan")), (), ValueError, "net: expected a record that equals"),
    "not its fields": (Doubling(1), (), ValueError, "net: expected a record that equals"),
    "class": (LSTM, (), TypeError, "net: expected a Cell or a Layer"),
    "swapped": ({"w": np.zeros(1)}, LSTM(1), TypeError, "net: expected a Cell or a Layer"),
    "float leaf": (LSTM(1), {"w": (1.0,)}, TypeError, "params.w.0: expected an array"),
    "int key": (LSTM(1), {1: np.zeros(1)}, TypeError, "params: expected an array"),
    "shape only": (LSTM(1), jax.ShapeDtypeStruct((1,), "float32"), TypeError, "params: expected an array"),
    "complex": (LSTM(1), np.zeros(1, np.complex64), TypeError, "float64, got complex64"),
    "objects": (LSTM(1), np.array([{}]), TypeError, "float64, got object"),
    "key": (LSTM(1), (jax.random.key(0),), TypeError, "params.0: expected one of"),
    "same name": (LSTM(1), {"a.b": np.ones(1), "a": {"b": np.ones(1)}}, ValueError, "a second 'a.b'"),
    "reserved": (LSTM(1), {"__metadata__": np.ones(1)}, ValueError, "__metadata__"),
}


@pytest.mark.parametrize("name", SAVE_ERRORS)
def test_what_cannot_be_saved(name: str, tmp_path: Path) -> None:
    net, params, kind, words = SAVE_ERRORS[name]
    one_line_error(lambda: jlstm.save(tmp_path / "m", net, params), "save: ", words, kind=kind)
    assert not list(tmp_path.iterdir())


def test_a_tracer_cannot_be_saved(tmp_path: Path) -> None:
    def inside(w: jax.Array) -> jax.Array:
        jlstm.save(tmp_path / "m", LSTM(1), {"w": w})
        return w

    one_line_error(lambda: jax.jit(inside)(jnp.ones(2)), "save: params.w", "a tracer", "outside jit", kind=TypeError)


@pytest.mark.parametrize(("function", "error"), [("replace", OSError("disk")), ("fsync", KeyboardInterrupt())])
def test_a_save_that_breaks_off_leaves_the_old_file(
    function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    jlstm.save(path, LSTM(1), ())

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(files.os, function, fail)
        with pytest.raises(type(error)):
            jlstm.save(path, LSTM(2), ())
    assert list(tmp_path.iterdir()) == [path] and jlstm.load(path)[0] == LSTM(1)
    jlstm.save(path, LSTM(2), ())
    assert jlstm.load(path)[0] == LSTM(2)
    (tmp_path / "plain").write_bytes(b"")  # readable by whom the user's umask says
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
