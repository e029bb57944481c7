"""Checkpoints: the ones that stay, a state that comes back, and damaged files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from small import bitwise

from experiments.checkpoints import Checkpoints

FOLDER = Path("c")

pytestmark = pytest.mark.usefixtures("elsewhere")


def state(step: int) -> Any:
    """Every dtype that a state may hold, another one at each step."""
    weights = {"w": jax.random.normal(jax.random.key(step), (300, 7)), "half": jnp.full((2,), 1 / 3, jnp.bfloat16)}
    return weights, jnp.int32(step), (), jnp.array([jnp.nan, jnp.inf, -0.0]), None


def opened(warnings: list[str], keep: int = 2, higher_is_better: bool = False) -> Any:
    """The checkpoints in FOLDER, closed at the end of the `with` block."""
    return closing(Checkpoints(FOLDER, keep=keep, higher_is_better=higher_is_better, warn=warnings.append))


def save_three() -> None:
    with opened([]) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"step": step}, None)


def names(folder: Path = FOLDER) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("higher_is_better", "stay"), [(False, {"2", "4", "5"}), (True, {"3", "4", "5"})])
def test_the_newest_and_the_best_stay(higher_is_better: bool, stay: set[str]) -> None:
    for part in ([1, 2], [3, 4, 5]):  # two processes: the second knows how good the first one's were
        with opened([], higher_is_better=higher_is_better) as checkpoints:
            for step in part:
                measure = {1: 0.5, 2: 0.1, 3: 0.9, 5: 0.4}.get(step)  # at 4 it was not evaluated
                checkpoints.save(step, state(step), {}, measure)
    assert names() == stay


def test_a_saved_state_comes_back_bitwise() -> None:
    facts = {"seconds": 0.1, "pending": [[1 / 3]]}
    with opened(warnings := []) as checkpoints:
        assert checkpoints.restore(state(0)) is None
        checkpoints.save(7, kept := state(7), facts, 0.5)
        jax.tree.map(lambda leaf: leaf.delete(), kept)  # as a donated argument is, while the writer still writes
        back = checkpoints.restore(state(0))
    assert (back.step, back.facts, warnings) == (7, facts, [])
    bitwise(back.state, state(7))
    assert [leaf.dtype for leaf in jax.tree.leaves(back.state)] == [leaf.dtype for leaf in jax.tree.leaves(state(7))]


def files(path: Path) -> list[Path]:
    """All files of a checkpoint, the largest one last."""
    return sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(path: Path) -> None:
    *_, largest = files(path)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def flip(path: Path) -> None:
    *_, largest = files(path)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def empty(path: Path) -> None:
    for file in files(path):
        file.write_bytes(b"")


class Payload:
    """An object whose pickle makes a file when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def pickled(path: Path) -> None:
    for file in files(path):
        file.write_bytes(pickle.dumps(Payload()))


def other_net(path: Path) -> None:
    with opened([], keep=9, higher_is_better=True) as checkpoints:
        checkpoints.save(int(path.name), state(0)[:2], {}, None)


@pytest.mark.parametrize("damage", [truncate, flip, empty, pickled, other_net])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage: Callable[[Path], None]) -> None:
    save_three()
    damage(FOLDER / "3")
    with opened(warnings := []) as checkpoints:
        back = checkpoints.restore(state(0))
        assert back.step == 2
        bitwise(back.state, state(2))
        (line,) = warnings
        assert line.startswith("checkpoint 3 cannot be read (") and "\n" not in line
        assert ("expected the state of this config, got another at [3]" in line) == (damage is other_net)
        for step in (3, 4):  # the run comes by again, and goes on keeping
            checkpoints.save(step, state(step), {}, None)
    assert names() == {"broken", "3", "4"} and not Path("executed").exists()
    with opened(warnings) as checkpoints:
        assert checkpoints.restore(state(0)).step == 4 and len(warnings) == 1


def test_where_none_is_whole_the_run_starts_again_and_all_are_kept() -> None:
    save_three()
    for path in list(FOLDER.iterdir()):
        truncate(path)
    with opened(warnings := []) as checkpoints:
        assert checkpoints.restore(state(0)) is None
    assert len(warnings) == 2 and len(names(FOLDER / "broken")) == 2


def test_equal_shapes_under_another_name_are_another_state() -> None:
    with opened(warnings := []) as checkpoints:
        checkpoints.save(1, {"a": jnp.ones(3), "b": jnp.zeros(3)}, {}, None)
        assert checkpoints.restore({"a": jnp.ones(3), "c": jnp.zeros(3)}) is None
    assert "expected the state of this config" in warnings[0]
    assert names(FOLDER / "broken") == {"1"}
