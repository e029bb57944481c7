"""Checkpoints: what stays, what comes back, and what a damaged file does."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from small import bitwise

from experiments.checkpoints import Checkpoints


def state(step: int) -> Any:
    """Every dtype that a state may hold, another one at each step."""
    key = jax.random.key(step)
    return (
        {"w": jax.random.normal(key, (300, 7)), "half": jnp.full((2,), 1 / 3, jnp.bfloat16)},
        jnp.int32(step),
        (),
        jnp.array([jnp.nan, jnp.inf, -0.0]),
        None,
    )


def opened(path: Path, warnings: list[str], **options: Any) -> Checkpoints:
    return Checkpoints(path / "c", **{"keep": 2, "higher_is_better": False, **options}, warn=warnings.append)


def saved(path: Path, steps: int = 3) -> None:
    checkpoints = opened(path, [])
    for step in range(1, steps + 1):
        checkpoints.save(step, state(step), {"step": step}, None)
    checkpoints.close()


@pytest.mark.parametrize(("higher_is_better", "stay"), [(False, {2, 4, 5}), (True, {3, 4, 5})])
def test_the_newest_and_the_best_stay(tmp_path: Path, higher_is_better: bool, stay: set[int]) -> None:
    for part in ([1, 2], [3, 4, 5]):  # two processes: the second knows how good the first one's were
        checkpoints = opened(tmp_path, [], higher_is_better=higher_is_better)
        for step in part:
            measure = {1: 0.5, 2: 0.1, 3: 0.9, 5: 0.4}.get(step)  # at 4 it was not evaluated
            checkpoints.save(step, state(step), {}, measure)
        checkpoints.close()
    assert {int(p.name) for p in (tmp_path / "c").iterdir()} == stay


def test_what_is_saved_comes_back_bitwise(tmp_path: Path) -> None:
    checkpoints, facts = opened(tmp_path, warnings := []), {"seconds": 0.1, "pending": [[1 / 3]]}
    assert checkpoints.restore(state(0)) is None
    checkpoints.save(7, kept := state(7), facts, 0.5)
    jax.tree.map(lambda leaf: leaf.delete(), kept)  # as a donated argument is, while the writer still writes
    restored = checkpoints.restore(state(0))
    checkpoints.close()
    assert restored is not None and (restored.step, restored.facts, warnings) == (7, facts, [])
    bitwise(restored.state, state(7))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.dtype == b.dtype, restored.state, state(7))))


def largest(path: Path) -> Path:
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(path: Path) -> None:
    largest(path).write_bytes(largest(path).read_bytes()[: largest(path).stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(largest(path).read_bytes())
    data[len(data) // 2] ^= 1
    largest(path).write_bytes(data)


def empty(path: Path) -> None:
    for file in [file for file in path.rglob("*") if file.is_file()]:
        file.write_bytes(b"")


class Payload:
    """What a pickle would do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def pickled(path: Path) -> None:
    for file in [file for file in path.rglob("*") if file.is_file()]:
        file.write_bytes(pickle.dumps(Payload()))


def other_net(path: Path) -> None:
    checkpoints = Checkpoints(path.parent, keep=9, higher_is_better=True, warn=print)
    checkpoints.save(int(path.name), state(0)[:2], {}, None)
    checkpoints.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "cannot be read"),
        (flip, "cannot be read"),
        (empty, "cannot be read"),
        (pickled, "cannot be read"),
        (other_net, "expected the state of this config, got another at [3]"),
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path)
    damage(tmp_path / "c" / "3")
    checkpoints = opened(tmp_path, warnings := [])
    restored = checkpoints.restore(state(0))
    assert restored is not None and restored.step == 2
    bitwise(restored.state, state(2))
    (line,) = warnings
    assert line.startswith("checkpoint 3 cannot be read (") and says in line and "\n" not in line
    assert not Path("executed").exists()
    checkpoints.save(3, state(3), {}, None)  # the run comes by again, and goes on keeping
    checkpoints.save(4, state(4), {}, None)
    checkpoints.close()
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"broken", "3", "4"}
    assert opened(tmp_path, warnings).restore(state(0)).step == 4 and len(warnings) == 1  # pyright: ignore


def test_where_none_is_whole_the_run_starts_again_and_all_are_kept(tmp_path: Path) -> None:
    saved(tmp_path)
    for path in list((tmp_path / "c").iterdir()):
        truncate(path)
    assert opened(tmp_path, warnings := []).restore(state(0)) is None
    assert len(warnings) == 2 and len(list((tmp_path / "c" / "broken").iterdir())) == 2


def test_equal_shapes_under_another_name_are_another_state(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path, warnings := [])
    checkpoints.save(1, {"a": jnp.ones(3), "b": jnp.zeros(3)}, {}, None)
    assert checkpoints.restore({"a": jnp.ones(3), "c": jnp.zeros(3)}) is None
    assert "expected the state of this config" in warnings[0]
    assert (tmp_path / "c" / "broken" / "1").is_dir()
    checkpoints.close()
