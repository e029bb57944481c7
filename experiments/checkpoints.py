"""Checkpoints of a run or a sweep: written beside the training, verified when read, the newest and the best kept.

orbax writes a checkpoint, makes it appear whole or not at all, and clears away old ones. What it is handed is one array
of bytes under a SHA-256: damage that it would not notice is seen, and the checkpoint before it is taken. (And where a
disk is full, many arrays would fail at once, each of them loudly.)
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
BROKEN = "broken"  # where checkpoints that cannot be read are set aside
PACKED = "packed"  # the one array of the tree that orbax is handed

# All that orbax logs as an error it also raises, and this is where it is told in one line.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Restored(NamedTuple):
    """What a checkpoint holds: a state like the template's, its step, and the facts saved with it."""

    state: Any
    step: int
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints under one directory, named by their step.

    keep: so many of the newest stay, and the best one by the measure handed to `save`.
    warn: gets one line for each checkpoint that cannot be read.
    """

    def __init__(self, path: Path, *, keep: int, higher_is_better: bool, warn: Callable[[str], None]) -> None:
        self.path, self.keep, self.higher_is_better, self.warn = path.absolute(), keep, higher_is_better, warn
        self._writer: Any = None
        self._pending: Any = None  # the save that is being written

    def save(self, step: int, state: Any, facts: Mapping[str, Any], measure: float | None) -> None:
        """Copies `state` to the host and writes it in the background; waits for the save before it.

        measure: on held-out data at this step, None where it was not evaluated. Raises what the save before raised.
        """
        self.wait()
        tree = {PACKED: _pack(state, facts)}
        metrics = None if measure is None else {MEASURE: measure}
        # A run that fell back to an older checkpoint comes by a step again.
        self._pending = self._open().save_async(step, tree, force=True, overwrite=True, metrics=metrics)

    def restore(self, template: Any) -> Restored | None:
        """The newest checkpoint that is whole and fits `template`, None where there is none.

        One that is not is moved into the folder `broken`, with a warning.
        """
        self.wait()
        found = []
        # The older ones, too: the writer reads all of them, and would stumble.
        for step in sorted((int(p.name) for p in self.path.glob("*") if p.name.isdecimal()), reverse=True):
            try:
                found.append(_read(self.path / str(step), template))
            except Exception as error:  # whatever orbax and its readers make of a damaged file
                self._set_aside(step, error)
        return found[0] if found else None

    def wait(self) -> None:
        """Returns when all that was saved is on disk; raises what went wrong with it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Waits, and ends the writer."""
        try:
            self.wait()
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def _open(self) -> Any:
        """The writer, made when first needed: it looks at the checkpoints that are there."""
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
                cleanup_tmp_directories=True,  # of a process that was killed while it wrote
            )
        return self._writer

    def _set_aside(self, step: int, error: Exception) -> None:
        aside = self.path / BROKEN
        aside.mkdir(exist_ok=True)
        taken = sum(p.name.partition(".")[0] == str(step) for p in aside.iterdir())
        target = aside / (f"{step}.{taken}" if taken else str(step))
        (self.path / str(step)).rename(target)
        self.warn(
            f"checkpoint {step} cannot be read ({reason(error)}): moved to {target}. Going on from the one before."
        )


def _leaves(state: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of a state on the host, and their places in it."""
    return [(jax.tree_util.keystr(at), np.asarray(leaf)) for at, leaf in jax.tree_util.tree_leaves_with_path(state)]


def _layout(state: Any) -> list[list[Any]]:
    return [[at, leaf.dtype.name, list(leaf.shape)] for at, leaf in _leaves(state)]


def _pack(state: Any, facts: Mapping[str, Any]) -> np.ndarray:
    """A line with the SHA-256 of all behind it, a line of JSON that says what follows, and the arrays' bytes."""
    header = json.dumps({"leaves": _layout(state), "facts": facts}).encode()
    contents = header + b"\n" + b"".join(leaf.tobytes() for _, leaf in _leaves(state))
    return np.frombuffer(_seal(contents) + b"\n" + contents, np.uint8)


def _seal(contents: bytes) -> bytes:
    return hashlib.sha256(contents).hexdigest().encode()


def _read(path: Path, template: Any) -> Restored:
    """The checkpoint at `path`; raises where it is not what was written, or not of this net."""
    tree: Any = ocp.load(str(path))
    seal, _, contents = np.asarray(tree[PACKED]).tobytes().partition(b"\n")
    if seal != _seal(contents):
        raise ValueError("its SHA-256 is not that of its contents")
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
