from typing import Any, NamedTuple

import jax
import numpy as np


class Restored(NamedTuple):
    state: Any
    step: int
    facts: Any


class Checkpoints:
    def __init__(self, path, *, keep, higher_is_better):
        self.path = path

    def save(self, step, state, facts, measure):
        self.path.mkdir(exist_ok=True)
        np.save(
            self.path / "x.npy",
            np.array([step, jax.tree.map(np.asarray, jax.tree.leaves(state)), facts], dtype=object),
            allow_pickle=True,
        )

    def restore(self, template):
        if not (self.path / "x.npy").exists():
            return None
        step, leaves, facts = np.load(self.path / "x.npy", allow_pickle=True)
        return Restored(
            jax.tree.unflatten(jax.tree.structure(template), [jax.numpy.asarray(l) for l in leaves]), step, facts
        )

    def close(self):
        pass
