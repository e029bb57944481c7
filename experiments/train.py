"""Training as pure functions of arrays, for one member of a sweep. A single run is a sweep with one member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import tasks
from experiments.schema import Config
from experiments.spread import cores
from experiments.sweep import TRACED

Array = jax.Array

NEVER = -1  # TrainState.diverged_at before a member diverges


class Member(NamedTuple):
    """The scalars in which members of one program may differ: seed, int32, and those of `sweep.TRACED`, float32."""

    seed: Any
    learning_rate: Any
    clip: Any
    weight_decay: Any


class TrainState(NamedTuple):
    """Everything that training changes. The rest, including keys and batches, follows from config, member and step.

    diverged_at: the step, counted from 1, whose loss or gradient was not finite, int32; `NEVER` before. From then on
    the state stays as it was before that step, so it never contains NaN.
    """

    params: Any
    opt_state: Any
    carry: Any  # the net's state from batch to batch, if the task is stateful
    diverged_at: Array


class Train(NamedTuple):
    """Pure functions of one member. `jax.vmap` and `jax.lax.map` apply them to many.

    start(member) -> TrainState                              before step 0
    advance(member, state, data, first, count) -> (state, losses [steps_per_call])
                                                             `count` steps from step `first`; later losses are 0
    evaluate(params, data) -> measure
    """

    start: Callable[[Member], TrainState]
    advance: Callable[..., tuple[TrainState, Array]]
    evaluate: Callable[..., Array]


def members(config: Config, values: Sequence[Mapping[str, Any]]) -> Member:
    """Return leaves `[N]`: each member's own values, or the config's if it has none."""
    train = config.train.model_dump()
    columns = {key: [row.get(f"train.{key}", train[key]) for row in values] for key in Member._fields}
    return Member(**{key: np.asarray(c, np.int32 if key == "seed" else np.float32) for key, c in columns.items()})


def optimizer(config: Config, member: Member) -> optax.GradientTransformation:
    """Return Adam after a clip of the global norm, with decoupled decay if set. The cosine schedule ends at 0."""
    train = config.train
    rate = member.learning_rate
    if train.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, train.steps)
    decays = train.weight_decay or config.sweep.train.get("weight_decay")
    adam = optax.adamw(rate, weight_decay=member.weight_decay) if decays else optax.adam(rate)
    return optax.chain(optax.clip_by_global_norm(member.clip), adam)


def make_train(config: Config, task: tasks.Task | None = None) -> Train:
    """Return a config's training as pure functions. The seed and the `TRACED` values come from the member."""
    task = task or tasks.make(config)

    def start(member: Member) -> TrainState:
        params = task.init(jax.random.fold_in(jax.random.key(member.seed), 0))
        return TrainState(params, optimizer(config, member).init(params), task.carry(params), jnp.int32(NEVER))

    def one(member: Member, data: Any, step: Array, state: TrainState) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(member.seed), 1), step)
        value_and_grad = jax.value_and_grad(task.loss, has_aux=True)
        (loss, carry), grads = value_and_grad(state.params, state.carry, data, step, key)
        updates, opt_state = optimizer(config, member).update(grads, state.opt_state, state.params)
        new = TrainState(optax.apply_updates(state.params, updates), opt_state, carry, state.diverged_at)
        sound = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        going = state.diverged_at == NEVER
        new = jax.tree.map(lambda new, old: jnp.where(sound & going, new, old), new, state)
        return new._replace(diverged_at=jnp.where(going & ~sound, step + 1, state.diverged_at)), loss

    def advance(member: Member, state: TrainState, data: Any, first: Array, count: Array) -> tuple[TrainState, Array]:
        def body(i: Array, loop: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, losses = loop
            state, loss = one(member, data, first + i, state)
            return state, losses.at[i].set(loss)

        # `count` is traced, so a short last call compiles nothing new.
        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(config.train.steps_per_call)))

    return Train(start, advance, task.evaluate)


def at_once(config: Config, n: int) -> tuple[int, int]:
    """Return how many of `n` members run at once: (threads, members at once in each), within [sweep] parallel.

    On GPU and TPU all members run at once. A CPU runs one thread per core with few members each, since one batch fills
    its caches. Two cores, float32, adding, T = 100, H = 32: the steps of 16 members took 0.28, 0.36 and 0.46 of the
    time of 16 runs at B = 1, 8 and 32. In one thread, a `vmap` of 16, of 4 and of 1 took 0.36, 0.48 and 0.88 at B = 1;
    0.85, 0.72 and 0.83 at B = 8; 1.40, 1.24 and 0.94 at B = 32.
    """
    limit = min(config.sweep.parallel or n, n)
    if jax.default_backend() != "cpu":
        return 1, limit
    threads = min(cores(), limit)
    few = 4 if config.train.batch_size * config.model.hidden_size <= 256 else 1
    return threads, min(limit // threads if config.sweep.parallel else few, -(-n // threads))


def over_members(f: Callable[..., Any], parallel: int) -> Callable[..., Any]:
    """Map `f` over the leading axis `[N]` of all its arguments in one program, `parallel` at a time in a `vmap`."""
    return lambda *args: jax.lax.map(lambda row: f(*row), args, batch_size=None if parallel == 1 else parallel)


assert {f"train.{key}" for key in Member._fields} == {*TRACED, "train.seed"}
