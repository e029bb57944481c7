"""Strict from the start: four virtual devices for the sharding tests, no silent broadcasting, `--slow`."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import pictures

os.environ.setdefault("KERAS_BACKEND", "jax")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_cpu_enable_async_dispatch", False)  # as experiments.job has it
# Tracing makes objects by the million; looking through them all for cycles, again and again, was a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the full products of options and the long runs")
    parser.addoption("--optimized", action="store_true", help="compile as users do, not as quickly as can be")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: runs with --slow only")
    flags = {"xla_force_host_platform_device_count": 4}
    if not config.getoption("--optimized"):
        # The programs are small: they compile longer than they run.
        flags |= {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
        if jax.__version_info__ < (0, 11):
            flags["xla_cpu_use_fusion_emitters"] = "false"  # a later XLA ends the process that names it
    # Read with the first array, and by the processes that tests start.
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = " ".join([*(f"--{name}={value}" for name, value in flags.items()), given])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Share compiled programs between processes, to the end: most programs of the experiments were compiled before."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp().parent / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_once: None) -> None:
    """Work in an empty directory, under which runs are kept."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures: they take most of the time of a run of six steps, and have tests of their own."""
    monkeypatch.setattr(pictures, "draw", lambda *args, **options: pictures.Drawn((), ()))


@pytest.fixture
def hoisted_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take "hoisted" where a test looks at the loops of a program: "native" has none to see."""
    monkeypatch.setenv("JLSTM_BACKEND", "hoisted")


@pytest.fixture
def nothing_carried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Carry no parameter's gradient in a loop: "hoisted" as for large parameters, or without a CPU."""
    jax.clear_caches()
    monkeypatch.setattr(sys.modules["jlstm.kernels.hoisted"], "CARRIED", 0)
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 on, for this test only."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
