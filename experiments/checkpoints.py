"""Checkpoints of a run or a sweep, written in the background and verified when read. The newest and the best are kept.

orbax writes a checkpoint atomically and deletes old ones. Each checkpoint is one array of bytes with a SHA-256, which
detects damage that orbax does not notice; the checkpoint before it is then used. (With many arrays, a full disk would
give many errors at once.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

from experiments.disk import reason

MEASURE = "measure"  # the name of orbax's metric that decides which checkpoint is the best
BROKEN = "broken"  # the folder for checkpoints that cannot be read
PACKED = "packed"  # the name of the only array in the tree that orbax saves

# orbax also raises every error that it logs; this module reports it in one line.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Restored(NamedTuple):
    """The content of a checkpoint: a state like the template, its step, and the facts saved with it."""

    state: Any
    step: int
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints under one directory, named by their step.

    keep: the number of newest ones to keep, besides the best one by the measure given to `save`.
    warn: called with one line for each checkpoint that cannot be read.
    """

    def __init__(self, path: Path, *, keep: int, higher_is_better: bool, warn: Callable[[str], None]) -> None:
        self.path, self.keep, self.higher_is_better, self.warn = path.absolute(), keep, higher_is_better, warn
        self._writer: Any = None
        self._pending: Any = None  # the save that is being written

    def save(self, step: int, state: Any, facts: Mapping[str, Any], measure: float | None) -> None:
        """Wait for the previous save, copy `state` to the host, and write it in the background.

        measure: on held-out data at this step, None if not evaluated. Raises the error of the previous save, if any.
        """
        self.wait()
        tree = {PACKED: _pack(state, facts)}
        metrics = None if measure is None else {MEASURE: measure}
        # A run that fell back to an older checkpoint reaches the same step again.
        self._pending = self._open().save_async(step, tree, force=True, overwrite=True, metrics=metrics)

    def restore(self, template: Any) -> Restored | None:
        """Return the newest checkpoint that is intact and fits `template`, or None.

        Checkpoints that are damaged or do not fit are moved into the folder `broken`, with a warning.
        """
        self.wait()
        found = []
        # Read the older ones, too: the writer reads all of them and would fail.
        for step in sorted((int(p.name) for p in self.path.glob("*") if p.name.isdecimal()), reverse=True):
            try:
                found.append(_read(self.path / str(step), template))
            except Exception as error:  # any error that orbax raises for a damaged file
                self._set_aside(step, error)
        return found[0] if found else None

    def wait(self) -> None:
        """Wait until the last save is on disk. Raises its error, if any."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait for the last save, then close the writer."""
        try:
            self.wait()
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def _open(self) -> Any:
        """Return the writer. It is made when first needed, since it reads the existing checkpoints."""
        if self._writer is None:
            policies: Any = ocp.training.preservation_policies
            best = policies.BestN(
                get_metric_fn=lambda metrics: metrics[MEASURE],
                n=1,
                reverse=not self.higher_is_better,
                keep_checkpoints_without_metrics=False,
            )
            self._writer = ocp.training.Checkpointer(
                str(self.path),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(self.keep), best]),
                cleanup_tmp_directories=True,  # left by a process that was killed while writing
            )
        return self._writer

    def _set_aside(self, step: int, error: Exception) -> None:
        aside = self.path / BROKEN
        aside.mkdir(exist_ok=True)
        taken = sum(p.name.partition(".")[0] == str(step) for p in aside.iterdir())
        target = aside / (f"{step}.{taken}" if taken else str(step))
        (self.path / str(step)).rename(target)
        self.warn(
            f"checkpoint {step} cannot be read ({reason(error)}): moved to {target}. Continuing from the one before."
        )


def _leaves(state: Any) -> list[tuple[str, np.ndarray]]:
    """Return the path and the array, on the host, of each leaf of a state."""
    return [(jax.tree_util.keystr(at), np.asarray(leaf)) for at, leaf in jax.tree_util.tree_leaves_with_path(state)]


def _layout(state: Any) -> list[list[Any]]:
    return [[at, leaf.dtype.name, list(leaf.shape)] for at, leaf in _leaves(state)]


def _pack(state: Any, facts: Mapping[str, Any]) -> np.ndarray:
    """Pack a line with the SHA-256 of the rest, a line of JSON that describes the arrays, and the arrays' bytes."""
    header = json.dumps({"leaves": _layout(state), "facts": facts}).encode()
    contents = header + b"\n" + b"".join(leaf.tobytes() for _, leaf in _leaves(state))
    return np.frombuffer(_seal(contents) + b"\n" + contents, np.uint8)


def _seal(contents: bytes) -> bytes:
    return hashlib.sha256(contents).hexdigest().encode()


def _read(path: Path, template: Any) -> Restored:
    """Read the checkpoint at `path`. Raises an error if it is damaged or belongs to another net."""
    tree: Any = ocp.load(str(path))
    seal, _, contents = np.asarray(tree[PACKED]).tobytes().partition(b"\n")
    if seal != _seal(contents):
        raise ValueError("its SHA-256 does not match its contents")
    header, _, body = contents.partition(b"\n")
    there, wanted = json.loads(header), _layout(template)
    if there["leaves"] != wanted:
        wrong = next(a or b for a, b in itertools.zip_longest(there["leaves"], wanted) if a != b)
        raise ValueError(f"expected the state of this config, got another at {wrong[0]}")
    leaves, offset = [], 0
    for _, like in _leaves(template):
        leaves.append(jnp.asarray(np.frombuffer(body, like.dtype, like.size, offset).reshape(like.shape)))
        offset += like.nbytes
    return Restored(jax.tree.unflatten(jax.tree.structure(template), leaves), int(path.name), there["facts"])
