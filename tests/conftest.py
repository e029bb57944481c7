"""Strict from the start: four virtual devices for the sharding tests, no silent broadcasting, `--slow`."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before jax is imported by anything.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import pictures

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_cpu_enable_async_dispatch", False)  # as experiments.job has it
# Tracing makes objects by the million; looking through them all for cycles, again and again, was a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the full products of options and the long runs")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: runs with --slow only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the experiments: each is a new program to jit, and mostly one that XLA had before, in any process."""
    settings = {
        "compilation_cache_dir": str(tmp_path_factory.getbasetemp().parent / "xla"),
        "persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, f"jax_{name}") for name in settings}
    for name, value in settings.items():
        jax.config.update(f"jax_{name}", value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)
    compilation_cache.reset_cache()


@pytest.fixture
def compile_fast() -> Iterator[None]:
    """For nets that are small: they compile longer than they run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_once: None, compile_fast: None) -> None:
    """Runs are kept under the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is most of what a run of six steps costs, and has tests of its own."""
    monkeypatch.setattr(pictures, "draw", lambda *args, **options: pictures.Drawn((), ()))


@pytest.fixture
def x64():
    """float64 on, for this test only."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
