"""The training loop on the host: device calls, evaluation, metrics, checkpoints, and every reason to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checkpoints import Checkpoints
from experiments.directory import RunDirectory
from experiments.report import Progress
from experiments.schema import Config
from experiments.signals import Signals
from experiments.spread import spread
from experiments.tasks import Task
from experiments.train import NEVER, TrainState, at_once, make_train, members, over_members


class DivergedError(Exception):
    """No member is left: every one has diverged."""


class SignalError(Exception):
    """A signal arrived, and the state is saved. Arguments: the signal and the step."""


class Outcome(NamedTuple):
    """The end of training: the state, leaves `[N]`, its step, and the measure of each member, NaN if it diverged.

    values: the measure for the result.   held_out: the measure on held-out data, which chooses the best member.
    """

    state: TrainState
    step: int
    values: np.ndarray
    held_out: np.ndarray


class Programs(NamedTuple):
    """The programs that run on the device, over all members."""

    start: Callable[[], TrainState]
    advance: Callable[..., tuple[TrainState, jax.Array]]
    evaluate: Callable[..., jax.Array]


def compile_programs(config: Config, task: Task, rows: Sequence[Mapping[str, Any]]) -> Programs:
    """Return the three programs of a setting with the members `rows`. Each is compiled at its first call."""
    train, member = make_train(config, task), members(config, rows)
    threads, beside = at_once(config, len(rows))

    @partial(jax.jit, donate_argnums=0)
    def advance(state: TrainState, member: Any, data: Any, first: Any, count: Any) -> tuple[TrainState, jax.Array]:
        return over_members(lambda m, s: train.advance(m, s, data, first, count), beside)(member, state)

    @jax.jit
    def evaluate(params: Any, data: Any) -> jax.Array:
        return over_members(lambda p: train.evaluate(p, data), beside)(params)

    start = jax.jit(over_members(train.start, beside))
    steps = spread(advance, len(rows), threads, over=2)
    return Programs(
        lambda: start(member),
        lambda state, data, first, count: steps(state, member, data, jnp.int32(first), jnp.int32(count)),
        spread(evaluate, len(rows), threads, over=1),
    )


def train(
    config: Config,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    run: RunDirectory,
    checkpoints: Checkpoints,
    progress: Progress,
    signals: Signals,
) -> Outcome:
    """Train the members `rows` from the last checkpoint, if any, to the last step, or until train.minutes are over.

    Raises DivergedError if every member has diverged, SignalError if a signal arrived.
    """
    settings, programs = config.train, compile_programs(config, task, rows)
    state, step, pending = _restore(programs, run, checkpoints, progress, len(rows))
    values, over = None, False
    progress.begin(step, settings.steps)
    while step < settings.steps and not over:
        began = time.perf_counter()
        # A call ends at the next due step, even if that is before steps_per_call.
        due = [
            settings.steps,
            *(_next(step, k) for k in (settings.eval_every, config.checkpoint.every, config.log.every) if k),
        ]
        count = min(settings.steps_per_call, min(due) - step)
        state, losses = programs.advance(state, task.data, step, count)
        losses, diverged = np.asarray(losses)[:, :count], np.asarray(state.diverged_at)  # waits for the device
        rate = count / (time.perf_counter() - began)
        step += count
        if (diverged != NEVER).all():
            raise DivergedError(_explain(config, losses, diverged, step - count))
        pending = losses if pending is None else np.concatenate([pending, losses], axis=1)
        loss = float(pending.mean(axis=1)[diverged == NEVER].mean())
        over = bool(settings.minutes) and run.seconds() >= 60 * settings.minutes
        last = over or step == settings.steps
        evaluating = last or step % settings.eval_every == 0
        progress.advance(step, loss, quiet=evaluating)
        if evaluating or not config.log.every or step % config.log.every == 0:
            run.log_members(step, diverged == NEVER, loss=pending.mean(axis=1), steps_per_second=rate)
            pending = None
        if evaluating:
            values = _evaluate(programs, state, task.held_out)
            run.log_members(step, diverged == NEVER, held_out=values)
            if not np.isfinite(values).any():
                raise DivergedError(
                    f"the {task.measure} on held-out data is {values[0]} at step {step}. Type --overwrite."
                )
            progress.evaluated(step, float(np.nanmean(values)))
        if last or step % config.checkpoint.every == 0 or signals.received:
            _save(checkpoints, run, step, state, pending, values if evaluating else None)
        if signals.received and not last:
            checkpoints.close()
            raise SignalError(signals.received, step)
    if values is None:  # resumed after its last step
        values = _evaluate(programs, state, task.held_out)
    test = values if task.test is None else _evaluate(programs, state, task.test)
    return Outcome(state, step, test, values)


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _evaluate(programs: Programs, state: TrainState, data: Any) -> np.ndarray:
    """Return the measure of every member; NaN for one that has diverged, even if its last state was good."""
    values = np.asarray(programs.evaluate(state.params, data), np.float64)
    return np.where(np.asarray(state.diverged_at) == NEVER, values, np.nan)


def _restore(
    programs: Programs, run: RunDirectory, checkpoints: Checkpoints, progress: Progress, n: int
) -> tuple[TrainState, int, np.ndarray | None]:
    """Return the last saved state, its step and the losses not yet logged. Drop metrics written after that step."""
    state = programs.start()
    restored = checkpoints.restore(state)
    if restored is None:
        run.rewind(0, 0.0)
        return state, 0, None
    run.rewind(restored.step, restored.facts["seconds"])
    pending = restored.facts["pending"]
    return restored.state, restored.step, None if pending is None else np.asarray(pending, np.float32)


def _save(checkpoints: Checkpoints, run: RunDirectory, step: int, state: TrainState, pending: Any, values: Any) -> None:
    # float32 -> JSON -> float32 is exact.
    facts = {"seconds": run.seconds(), "pending": None if pending is None else pending.tolist()}
    checkpoints.save(step, state, facts, None if values is None else float(np.nanmean(values)))


def _explain(config: Config, losses: np.ndarray, diverged: np.ndarray, before: int) -> str:
    """Explain the divergence of all members from their losses `[N, count]`, which start at step `before`."""
    at = int(diverged.min())
    if len(losses) > 1:
        what = f"all {len(losses)} members have diverged, the first at step {at}"
    else:
        loss = losses[0, at - before - 1]
        what = f"the {'gradient is no number' if np.isfinite(loss) else f'loss is {loss}'} at step {at}"
    return (
        f"{what}. Type a lower train.learning_rate (now {config.train.learning_rate:g}) "
        f"or train.clip (now {config.train.clip:g}), and --overwrite."
    )
