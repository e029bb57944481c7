"""Checkpoints of a run or a sweep: written beside the training, verified when read, the newest and the best kept.

A checkpoint is an orbax checkpoint of one tree: `leaves` (the state's arrays, by their place in it), `facts` (JSON, as
bytes) and `sha256` over both. A file system that lies, or a bit that flips, is seen, and the checkpoint before it is
taken.
"""

from __future__ import annotations

import hashlib
import json
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


class Restored(NamedTuple):
    """What a checkpoint holds: a state like the template's, the steps that are behind it, and the facts saved with it."""

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
        tree = _seal(_leaves(state), json.dumps(facts).encode())
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
            policies = ocp.training.preservation_policies
            best = policies.BestN(
                get_metric_fn=lambda metrics: metrics[MEASURE],
                n=1,
                reverse=not self.higher_is_better,
                keep_checkpoints_without_metrics=False,
            )
            self._writer = ocp.training.Checkpointer(
                self.path,
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


def _leaves(state: Any) -> dict[str, np.ndarray]:
    """The arrays of a state on the host, by their place in it."""
    return {
        f"{i:04}{jax.tree_util.keystr(at)}": np.asarray(leaf)
        for i, (at, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(state))
    }


def _seal(leaves: Mapping[str, np.ndarray], facts: bytes) -> dict[str, Any]:
    """The tree that is written."""
    facts_bytes = np.frombuffer(facts, np.uint8)
    digest = hashlib.sha256()
    for name, leaf in sorted({**leaves, "facts": facts_bytes}.items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return {"leaves": dict(leaves), "facts": facts_bytes, "sha256": np.frombuffer(digest.digest(), np.uint8)}


def _read(path: Path, template: Any) -> Restored:
    """The checkpoint at `path`; raises where it is not what was written, or not of this net."""
    tree: Any = ocp.load(path)
    facts = np.asarray(tree["facts"]).tobytes()
    leaves = {name: np.asarray(leaf) for name, leaf in tree["leaves"].items()}
    if not np.array_equal(_seal(leaves, facts)["sha256"], np.asarray(tree["sha256"])):
        raise ValueError("its SHA-256 is not that of its contents")
    wanted = {name: (leaf.shape, leaf.dtype) for name, leaf in _leaves(template).items()}
    there = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    if there != wanted:
        different = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
        raise ValueError(f"expected the state of this config, got another at {different[0]}")
    arrays = [jnp.asarray(leaves[name]) for name in wanted]
    return Restored(jax.tree.unflatten(jax.tree.structure(template), arrays), int(path.name), json.loads(facts))
