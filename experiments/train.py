"""The training loop: many optimiser steps in one device call, evaluation, metrics, and the state that resumes a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.directory import RunDirectory
from experiments.report import Progress
from experiments.schema import Config, Train
from experiments.tasks import Task

Array = jax.Array


class TrainState(NamedTuple):
    """All that training changes. Everything else, keys and batches too, follows from the config and the step."""

    params: Any
    opt_state: Any
    carry: Any  # the net's state, from batch to batch, where the task is stateful


class DivergedError(Exception):
    """The loss is no longer a number."""


def optimizer(train: Train) -> optax.GradientTransformation:
    """Adam behind a clip of the global norm; the cosine schedule ends at 0."""
    cosine = train.schedule == "cosine"
    rate = optax.cosine_decay_schedule(train.learning_rate, train.steps) if cosine else train.learning_rate
    return optax.chain(optax.clip_by_global_norm(train.clip), optax.adam(rate))


def start(config: Config, task: Task) -> TrainState:
    """The state before step 0."""

    @jax.jit  # one compilation instead of one for each operation
    def make(key: Array) -> TrainState:
        params = task.init(key)
        return TrainState(params, optimizer(config.train).init(params), task.carry(params))

    return make(jax.random.fold_in(jax.random.key(config.train.seed), 0))


def make_call(config: Config, task: Task) -> Callable[..., tuple[TrainState, Array]]:
    """`call(state, key, data, first, count) -> (state, losses [steps_per_call])`: `count` steps, from step `first`.

    The losses behind `count` are 0. `count` is traced, so a short last call compiles nothing new; `state` is donated.
    """
    optimiser = optimizer(config.train)

    def one(key: Array, data: Any, step: Array, state: TrainState) -> tuple[TrainState, Array]:
        params, opt_state, carry = state
        value_and_grad = jax.value_and_grad(task.loss, has_aux=True)
        (loss, carry), grads = value_and_grad(params, carry, data, step, jax.random.fold_in(key, step))
        updates, opt_state = optimiser.update(grads, opt_state, params)
        return TrainState(optax.apply_updates(params, updates), opt_state, carry), loss

    @partial(jax.jit, donate_argnums=0)
    def call(state: TrainState, key: Array, data: Any, first: Array, count: Array) -> tuple[TrainState, Array]:
        def body(i: Array, loop: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, losses = loop
            state, loss = one(key, data, first + i, state)
            return state, losses.at[i].set(loss)

        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(config.train.steps_per_call)))

    return call


def train(config: Config, task: Task, run: RunDirectory, progress: Progress) -> tuple[Any, float]:
    """Trains from where `run` stands to the last step: the parameters, and their measure on held-out data.

    Raises DivergedError where a loss is no number.
    """
    settings = config.train
    state, step = run.restore(start(config, task))
    call, key = make_call(config, task), jax.random.fold_in(jax.random.key(settings.seed), 1)
    evaluate = jax.jit(task.evaluate)
    progress.begin(step, settings.steps)
    value = None
    while step < settings.steps:
        began = time.perf_counter()
        # A call ends where an evaluation is due, whatever steps_per_call is.
        due = min((step // settings.eval_every + 1) * settings.eval_every, settings.steps)
        count = min(settings.steps_per_call, due - step)
        state, losses = call(state, key, task.data, jnp.int32(step), jnp.int32(count))
        losses = np.asarray(losses)[:count]  # waits for the device
        if not np.isfinite(losses).all():
            bad = int(np.argmin(np.isfinite(losses)))
            raise DivergedError(
                f"the loss is {losses[bad]} at step {step + bad + 1}. Type a lower train.learning_rate "
                f"(now {settings.learning_rate:g}) or train.clip (now {settings.clip:g}), and --overwrite."
            )
        step += count
        run.log(step=step, loss=float(losses.mean()), steps_per_second=count / (time.perf_counter() - began))
        progress.advance(step, float(losses.mean()), quiet=step == due)
        if step == due:
            value = float(evaluate(state.params, task.held_out))
            if not np.isfinite(value):
                raise DivergedError(f"the {task.measure} on held-out data is {value} at step {step}. Type --overwrite.")
            run.log(step=step, held_out=value)
            progress.evaluated(step, value)
            run.keep(state, step)
    # Resumed behind its last step, a run has nothing left to do but this.
    return state.params, float(evaluate(state.params, task.held_out)) if value is None else value
