"""Compiled programs kept on disk, so that the next process with the same config starts in a moment."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax


def keep(where: str) -> None:
    """Turns jax's persistent cache on: in the directory `where`, or "" the user's cache; "off" leaves all as it is.

    A cache that the user set (JAX_COMPILATION_CACHE_DIR, jax.config) stays.
    """
    if where == "off" or jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    root = (
        Path(where).expanduser() if where else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jlstm"
    )
    # XLA's programs for a CPU fit the kind of CPU they were made on, and a home directory is shared by many.
    jax.config.update("jax_compilation_cache_dir", str(root / "xla" / _machine()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _machine() -> str:
    """A name for the kind of CPU: its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    sets = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(sets.encode()).hexdigest()[:12]}"
