"""`jlstm.record`: checks from the types of fields, wherever a class stands; equality, copies, processes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import pytest

import jlstm
from jlstm.cells import Check, DType, Rate, Size

if TYPE_CHECKING:
    from nowhere import Imagined  # pyright: ignore[reportMissingImports]


@jlstm.record
class Base:
    size: Size
    kind: Literal["a", "b"] = "a"
    limit: Size | None = None
    dtype: DType | None = None
    imagined: Imagined | None = None
    plain: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", (*self.plain, type(self.size)))


@jlstm.record
class Derived(Base):
    rate: Rate = 0.0


class Undecorated(Base):
    rate: Rate = 0.0


FLOAT = "a floating dtype of at least 16 bits"


def test_fields_are_checked_by_their_types():
    for make, kind, message in (
        (lambda: Base(0), ValueError, "Base: size: expected a positive int, got 0."),
        (lambda: Base(1, "c"), ValueError, "Base: kind: expected one of 'a', 'b', got 'c'."),
        (lambda: Base(1, limit=-1), ValueError, "Base: limit: expected a positive int, got -1."),
        (lambda: Base(1, dtype="int8"), TypeError, f"Base: dtype: expected {FLOAT}, got int8."),
        (lambda: Derived(0), ValueError, "Derived: size: expected a positive int, got 0."),
        (lambda: Derived(1, rate=1), ValueError, "Derived: rate: expected a rate in [0, 1), got 1."),
    ):
        with pytest.raises(kind) as error:
            make()
        assert str(error.value) == message
    assert Base(1, limit=None, dtype=None, imagined=object).limit is None  # None and unknown types have no check


def test_values_are_normalised_before_the_classs_own_post_init():
    assert Base(np.int64(3)) == Base(3) and Base(np.int64(3)).plain == (int,)
    assert Base(1, dtype=jax.numpy.bfloat16).dtype == "bfloat16"
    assert Derived(np.int64(3)).plain == (int,) and Derived(1, rate=np.float32(0.5)).rate == 0.5  # inherited, once


def test_a_derived_class_without_the_decorator_says_so():
    message = r"^Undecorated: expected a record, like Base\. Type @jlstm\.record above class "
    with pytest.raises(TypeError, match=message):
        Undecorated(1)


def test_a_local_scope():
    """As in a notebook or a function: the types of fields are names of the frame that decorates."""

    def even(where: str, name: str, value: Any) -> int:
        if value % 2:
            raise ValueError(f"{where}: {name}: expected an even int, got {value}.")
        return value

    Even = Annotated[int, Check(even)]

    @jlstm.record
    class Local(Base):
        pair: Even = 2
        unknown: Nowhere = None  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        documented: Annotated[int, "no check"] = 3
        bits: Literal[16, 32] = 32

    assert Local(1, pair=4, bits=16).pair == 4 and Local(1, unknown=5, documented="x").unknown == 5
    with pytest.raises(ValueError, match=r"^Local: pair: expected an even int, got 3\.$"):
        Local(1, pair=3)
    namespace: dict[str, Any] = {"jlstm": jlstm}
    exec("from jlstm.cells import Size\n@jlstm.record\nclass Cell:\n    size: Size = 1\n", namespace)
    with pytest.raises(ValueError, match=r"^Cell: size: expected a positive int, got 0\.$"):
        namespace["Cell"](0)


def test_a_record_is_static():
    assert jax.tree.leaves(Derived(1)) == [] and dataclasses.is_dataclass(Derived)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Base(1).size = 2  # type: ignore[misc]
    traced = []
    f = jax.jit(lambda record, x: traced.append(record) or x * record.size)
    assert f(Base(2), 3) == f(Base(2), 4) - 2 == 6 and len(traced) == 1
    assert f(Base(3), 3) == 9 and len(traced) == 2


CELL = jlstm.Zoneout(jlstm.LSTM(4, forget_bias=jlstm.initializers.Chrono(9), compute_dtype="bfloat16"), 0.1)


def test_copies_are_equal():
    for record in (Base(2, "b", limit=3), Derived(2, rate=0.5), CELL):
        for twin in (copy.deepcopy(record), copy.copy(record), pickle.loads(pickle.dumps(record))):
            assert twin == record and hash(twin) == hash(record) and repr(twin) == repr(record)
    assert dataclasses.replace(CELL, h_rate=0.2).h_rate == 0.2
    with pytest.raises(ValueError, match="Zoneout: h_rate: expected a rate"):
        dataclasses.replace(CELL, h_rate=2)
    assert Base(2) != Derived(2) and Base(2) != Base(3) and len({Base(2), Base(2), Derived(2)}) == 2


def test_another_process_has_an_equal_record():
    """Its hash there is that of an equal record there: strings hash differently from process to process."""
    code = f"""
import pickle, sys, jlstm
cell, own = pickle.loads(sys.stdin.buffer.read()), {CELL!r}
assert cell == own and hash(cell) == hash(own)
sys.stdout.buffer.write(pickle.dumps(own))
"""
    names = "from jlstm import LSTM, Zoneout\nfrom jlstm.initializers import Chrono, GlorotUniform, Orthogonal\n"
    root = Path(jlstm.__file__).parents[1]
    command = [sys.executable, "-c", names + code]
    done = subprocess.run(command, input=pickle.dumps(CELL), capture_output=True, check=True, cwd=root, timeout=120)
    assert pickle.loads(done.stdout) == CELL and hash(pickle.loads(done.stdout)) == hash(CELL)


def test_numbers_and_names_have_one_spelling():
    """`forget_bias=1` is `ForgetBias(1.0)`, and `jnp.tanh` is "tanh"."""
    same = jlstm.LSTM(2, forget_bias=jlstm.initializers.ForgetBias(1), activation=jax.numpy.tanh)
    assert same == jlstm.LSTM(2) and hash(same) == hash(jlstm.LSTM(2))
    assert jlstm.LSTM(2, param_dtype=jax.numpy.float32) == jlstm.LSTM(2)
