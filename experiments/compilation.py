"""Keep compiled programs on disk, so that the next process with the same config starts quickly."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax


def keep(where: str) -> None:
    """Turn on jax's persistent cache in the directory `where`. "" is the user's cache; "off" changes nothing.

    A cache that the user has set (JAX_COMPILATION_CACHE_DIR, jax.config) is kept.
    """
    if where == "off" or jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    root = (
        Path(where).expanduser() if where else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jlstm"
    )
    # XLA's CPU programs only fit the kind of CPU they were compiled on, and many machines may share a home directory.
    jax.config.update("jax_compilation_cache_dir", str(root / "xla" / _machine()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _machine() -> str:
    """Return a name for the kind of CPU, made from its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    sets = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(sets.encode()).hexdigest()[:12]}"
