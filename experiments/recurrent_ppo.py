"""Recurrent PPO in one file, to copy and to change: `python -m experiments.recurrent_ppo --env tmaze --corridor 10`.

This trains an LSTM and then an agent without memory. It writes curve.png, metrics.json and the weights of all seeds to
runs/recurrent_ppo/<name>/, over those of an earlier run. A run is one pure function, `train(key) -> (params, metrics)`.
Letters: T steps of a rollout, B environments, D features of an observation, K actions, S seeds.

Environments have gymnax's signatures: `reset(key, params) -> (observation [D], state)`, `step(key, state, action,
params) -> (observation, state, reward, done, info)`, and `num_actions`. Those of gymnax fit as they are, also from 1.0
on, where `step` returns terminated and truncated in place of done. Brax has continuous actions; with this adapter the
agent lets each motor pull, rest or push:

    class Brax:
        def __init__(self, name):
            self.env = brax.envs.create(name, auto_reset=False)
            self.motors = jnp.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=self.env.action_size)))
            self.num_actions = len(self.motors)
        def reset(self, key, params=None):
            state = self.env.reset(key)
            return state.obs, state
        def step(self, key, state, action, params=None):
            state = self.env.step(state, self.motors[action])
            return state.obs, state, state.reward, state.done > 0, {}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

import jlstm

Array = jax.Array
NORTH, EAST, SOUTH, WEST = range(4)


@dataclass(frozen=True)
class TMaze:
    """The T-maze of Bakker (2001, "Reinforcement Learning with Long Short-Term Memory"), without noise.

    The cue stands at the start only: 011 for north, 110 for south. The corridor looks 101, the junction 010; there the
    agent has to turn to the side of the cue. The right turn gives 4 and the wrong one -0.1, and both end the episode.
    As in the paper, an action that leaves the agent where it is gives -0.1. All other steps give 0. An episode ends
    after 15 * corridor steps, so that a random walk reaches the junction now and then.
    """

    corridor: int = 10
    num_actions, solved = 4, 3.8  # the mean return where at most one turn in twenty is wrong

    def reset(self, key: Array, params: None = None) -> tuple[Array, Any]:
        state = (jnp.int32(0), jax.random.bernoulli(key), jnp.int32(0))
        return self.observe(*state), state

    def observe(self, position: Array, north: Array, time: Array) -> Array:
        place = jnp.where(position == 0, jnp.where(north, 0, 1), jnp.where(position < self.corridor, 2, 3))
        return jnp.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])[place]

    def step(self, key: Array, state: Any, action: Array, params: None = None) -> tuple[Any, ...]:
        position, north, time = state
        turned = (position == self.corridor) & ((action == NORTH) | (action == SOUTH))
        moved = jnp.clip(position + (action == EAST) - (action == WEST), 0, self.corridor)
        reward = jnp.where(turned & ((action == NORTH) == north), 4.0, jnp.where(moved == position, -0.1, 0.0))
        state = (moved, north, time + 1)
        return self.observe(*state), state, reward, turned | (time + 1 >= 15 * self.corridor), {}


@dataclass(frozen=True)
class CartPole:
    """Cart-pole (Barto, Sutton & Anderson 1983, without friction) that shows the position and the angle alone.

    The actions push with -10 or 10 N for 0.02 s. A step gives 1. An episode ends after 500 steps, or where the cart
    leaves ±2.4 m or the pole ±12°. The state is ([x, its speed, angle, its speed] in m, rad and s, time).
    """

    num_actions, solved = 2, 450.0

    def reset(self, key: Array, params: None = None) -> tuple[Array, Any]:
        body = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return self.observe(body), (body, jnp.int32(0))

    def observe(self, body: Array) -> Array:
        return body[::2] / jnp.array([2.4, jnp.deg2rad(12.0)])  # at ±1 the episode ends

    def step(self, key: Array, state: Any, action: Array, params: None = None) -> tuple[Any, ...]:
        gravity, pole, both, half_length, seconds = 9.8, 0.1, 1.1, 0.5, 0.02  # kg of the pole, of cart and pole; m; s
        (_, x_speed, angle, angle_speed), time = state
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        push = (jnp.where(action == 1, 10.0, -10.0) + pole * half_length * angle_speed**2 * sin) / both
        angle_rate = (gravity * sin - cos * push) / (half_length * (4 / 3 - pole * cos**2 / both))
        x_rate = push - pole * half_length * angle_rate * cos / both
        body = state[0] + seconds * jnp.stack([x_speed, x_rate, angle_speed, angle_rate])
        observation, time = self.observe(body), time + 1
        return observation, (body, time), jnp.float32(1.0), (jnp.abs(observation) > 1).any() | (time >= 500), {}


@dataclass(frozen=True)
class Settings:
    """The numbers of a run, each an option of the command. The defaults are those for the cart-pole."""

    seeds: int = 5  # 0 to 4
    corridor: int = 10  # of the T-maze
    updates: int = 300  # rollouts, with the learning from each
    environments: int = 64  # B
    rollout: int = 64  # T; gradients end where it begins
    epochs: int = 4
    minibatches: int = 4
    hidden: int = 32
    span: float = 10.0  # steps, the longest memory of the forget gates at the start
    learning_rate: float = 3e-3  # falls to 0
    gradient_norm: float = 0.1
    discount: float = 0.98
    trace: float = 0.95  # GAE's λ
    clip: float = 0.2
    entropy: float = 0.003
    reward_scale: float = 0.1  # the value's gradient shares the net and the norm, so returns should be a few units
    advantage_floor: float = 0.1  # advantages that spread less are noise, as once a task is solved, and stay small

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least, most = 2 if name == "span" else type(value) is int, 1 if name in ("discount", "trace") else 1e9
            if not least <= value <= most:
                raise ValueError(f"--{name.replace('_', '-')} {value} is out of range")
        if self.environments % self.minibatches:
            raise ValueError(f"--environments {self.environments} do not divide into {self.minibatches} minibatches")


class Rollout(NamedTuple):
    observation: Array  # [T, B, D]; all others are [T, B]
    first: Array  # True where the observation is the first of an episode
    action: Array
    log_prob: Array
    value: Array
    reward: Array  # scaled
    done: Array  # True where the episode ends with this step
    episode_return: Array  # of the episode up to this step, not scaled


def make_net(settings: Settings, num_actions: int, *, memoryless: bool) -> jlstm.Stack:
    """An LSTM, or two dense layers, below a head with K + 1 outputs: the logits and the value."""
    dense = jlstm.Dense(settings.hidden, activation="tanh")
    lstm = jlstm.LSTM(settings.hidden, forget_bias=jlstm.initializers.Chrono(settings.span))
    head = jlstm.Dense(num_actions + 1, w_init=jlstm.initializers.Orthogonal(0.1))
    return jlstm.Stack((dense, dense, head) if memoryless else (lstm, head))


def act(net: Any, params: Any, memory: Any, observation: Array, first: Array) -> tuple[Any, Array, Array]:
    """The actor: `(memory, log_probs [B, K], value [B])` for one observation `[B, D]`, first `[B]`."""
    memory, y = jlstm.step(net, params, memory, observation, reset=first)
    return memory, jax.nn.log_softmax(y[..., :-1]), y[..., -1]


def look_back(net: Any, params: Any, memory: Any, seen: Array, first: Array) -> tuple[Array, Array]:
    """The learner: `(log_probs [T, B, K], value [T, B])` for what a rollout saw, from the memory that it began with."""
    _, y = jlstm.unroll(net, params, seen, state=memory, resets=first, time_major=True, return_sequences=True)
    return jax.nn.log_softmax(y[..., :-1]), y[..., -1]


def gae(reward: Array, value: Array, done: Array, last_value: Array, discount: float, trace: float) -> Array:
    """Advantages `[T, B]` (Schulman et al. 2016); last_value `[B]` is of the observation after the rollout."""
    γ = jnp.where(done, 0.0, discount)  # a time limit is an end like any other
    δ = reward + γ * jnp.concatenate([value[1:], last_value[None]]) - value  # A_t = δ_t + γ λ A_{t+1}
    return jax.lax.scan(lambda A, t: (A := t[0] + t[1] * A, A), 0 * last_value, (δ, γ * trace), reverse=True)[1]


def make_train(env: Any, env_params: Any, net: Any, s: Settings, report: Callable[..., None] | None = None) -> Callable:
    """The pure function `train(key) -> (params, metrics)`; metrics are `[updates]`. Each update calls report."""
    B, splits = s.environments, s.epochs * s.minibatches
    rate = optax.linear_schedule(s.learning_rate, 0.0, s.updates * splits)
    optimizer = optax.chain(optax.clip_by_global_norm(s.gradient_norm), optax.adam(rate, eps=1e-5))

    def step_or_reset(key: Array, state: Any, action: Array) -> tuple[Any, Array, Array]:
        """One environment: `((observation, state), reward, done)`; after an end they are those of a new episode."""
        step_key, reset_key = jax.random.split(key)
        observation, state, reward, *ends, _ = env.step(step_key, state, action, env_params)
        done, fresh = jnp.stack(ends).any(), env.reset(reset_key, env_params)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (observation, state)), reward, done

    def rollout_step(params: Any, runner: tuple[Any, ...], key: Array) -> tuple[tuple[Any, ...], Rollout]:
        memory, (observation, state), first, so_far = runner
        action_key, env_key = jax.random.split(key)
        memory, log_probs, value = act(net, params, memory, observation, first)
        action = jax.random.categorical(action_key, log_probs)
        seen, reward, done = jax.vmap(step_or_reset)(jax.random.split(env_key, B), state, action)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], axis=-1)[:, 0]
        row = (observation, first, action, log_prob, value, s.reward_scale * reward, done, so_far + reward)
        return (memory, seen, done, jnp.where(done, 0.0, so_far + reward)), Rollout(*row)

    def loss_fn(params: Any, memory: Any, rollout: Rollout, advantage: Array) -> tuple[Array, Array]:
        log_probs, value = look_back(net, params, memory, rollout.observation, rollout.first)
        value_loss = jnp.square(value - rollout.value - advantage).mean()
        log_prob = jnp.take_along_axis(log_probs, rollout.action[..., None], axis=-1)[..., 0]
        ratio = jnp.exp(log_prob - rollout.log_prob)
        advantage = (advantage - advantage.mean()) / jnp.maximum(advantage.std(), s.advantage_floor)
        policy_loss = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - s.clip, 1 + s.clip) * advantage).mean()
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return policy_loss + 0.25 * value_loss - s.entropy * entropy, entropy

    def update(carry: tuple[Any, ...], now: tuple[Array, Array]) -> tuple[tuple[Any, ...], dict[str, Array]]:
        (params, opt_state, start), (number, key) = carry, now
        key, order_key = jax.random.split(key)
        runner, rollout = jax.lax.scan(partial(rollout_step, params), start, jax.random.split(key, s.rollout))
        _, _, last_value = act(net, params, runner[0], runner[1][0], runner[2])
        advantage = gae(rollout.reward, rollout.value, rollout.done, last_value, s.discount, s.trace)

        def learn(carry: tuple[Any, Any], rows: Array) -> tuple[tuple[Any, Any], Array]:
            """From some of the environments, over all of their steps, from the memory that these began with."""
            params, opt_state = carry
            memory = jax.tree.map(lambda a: a[rows], start[0])
            batch = jax.tree.map(lambda a: a[:, rows], (rollout, advantage))
            grads, entropy = jax.grad(loss_fn, has_aux=True)(params, memory, *batch)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), entropy

        orders = jax.vmap(lambda key: jax.random.permutation(key, B))(jax.random.split(order_key, s.epochs))
        (params, opt_state), entropy = jax.lax.scan(learn, (params, opt_state), orders.reshape(splits, -1))
        episodes, total = rollout.done.sum(), jnp.where(rollout.done, rollout.episode_return, 0.0).sum()
        if report is not None:
            jax.debug.callback(report, number, total / episodes)
        return (params, opt_state, runner), dict(episodes=episodes, total_return=total, entropy=entropy.mean())

    def train(key: Array) -> tuple[Any, dict[str, Array]]:
        keys = jax.random.split(key, s.updates + 2)
        seen = jax.vmap(env.reset, (0, None))(jax.random.split(keys[-1], B), env_params)
        params = net.init(keys[-2], seen[0].shape[-1])
        runner = (net.initial_state(params, (B,)), seen, jnp.ones(B, bool), jnp.zeros(B))
        carry, now = (params, optimizer.init(params), runner), (jnp.arange(s.updates), keys[:-2])
        (params, _, _), metrics = jax.lax.scan(update, carry, now)
        return params, metrics

    return train


def draw(path: Path, env: TMaze | CartPole, s: Settings, returns: dict[str, Array]) -> None:
    """Of each agent the median of its seeds, and the band that holds all of them; returns `[S, updates]`."""
    figure = Figure(figsize=(7, 4), layout="constrained", dpi=120)
    axes = figure.add_subplot(title=f"{env}", xlabel="environment steps", ylabel="mean return of finished episodes")
    axes.axhline(env.solved, color="0.35", linestyle="--", linewidth=1, label=f"solved: {env.solved:g}")
    x = s.environments * s.rollout * jnp.arange(1, s.updates + 1)
    for (agent, y), colour in zip(returns.items(), ("#0072b2", "#d55e00"), strict=False):
        axes.plot(x, jnp.nanmedian(y, axis=0), color=colour, label=f"{agent}, {len(y)} seeds")
        axes.fill_between(x, jnp.nanmin(y, axis=0), jnp.nanmax(y, axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.legend(frameon=False)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line. The parser has no usage to print, so that a wrong option is one line (and exit code 2)."""
    parser = argparse.ArgumentParser("recurrent_ppo", argparse.SUPPRESS, "Recurrent PPO.", allow_abbrev=False)
    parser.add_argument("--env", choices=("tmaze", "cartpole"), default="tmaze")
    parser.add_argument("--memoryless", action="store_true", help="train the agent without memory alone")
    parser.add_argument("--name", help="of the directory below runs/recurrent_ppo")
    for field in fields(Settings):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default))
    args = parser.parse_args(argv)
    given = {key: value for key, value in vars(args).items() if hasattr(Settings, key) and value is not None}
    try:
        s = replace(Settings(), **given)
        env, name, N = CartPole(), "cartpole", s.corridor
        if args.env == "tmaze":  # a rollout holds two episodes, and the memory lasts for two corridors
            env, name = TMaze(N), f"tmaze-{N}"
            longer = dict(updates=100 + 3 * N, rollout=max(32, 2 * N), span=2.0 * N + 2)
            s = replace(s, **longer | dict(discount=0.99, reward_scale=1.0) | given)
        path = Path("runs/recurrent_ppo", args.name or name + "-memoryless" * args.memoryless)
        path.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))

    def report(agent: str, number: Array, mean_return: Array) -> None:
        if (number + 1) % max(1, s.updates // 5) == 0:
            print(f"{agent}: update {number + 1} of {s.updates}, mean return {mean_return:.2f}", flush=True)

    curves, results, keys = {}, {}, jax.vmap(jax.random.key)(jnp.arange(s.seeds))
    for agent in ("lstm", "memoryless")[args.memoryless :]:
        begin, net = monotonic(), make_net(s, env.num_actions, memoryless=agent == "memoryless")
        train = make_train(env, None, net, s, partial(report, agent))
        # On a CPU the seeds take as long side by side as one after the other, and longer to compile.
        run = partial(jax.lax.map, train) if jax.default_backend() == "cpu" else jax.vmap(train)
        params, metrics = jax.block_until_ready(jax.jit(run)(keys))
        for seed in range(s.seeds):
            jlstm.save(path / f"{agent}-{seed}.safetensors", net, jax.tree.map(lambda a, n=seed: a[n], params))
        curves[agent] = metrics["total_return"] / metrics["episodes"]
        score = jnp.nanmean(curves[agent][:, -s.updates // 10 :], axis=1).tolist()  # over the last tenth
        results[agent] = dict(score=score, seconds=monotonic() - begin) | {k: v.tolist() for k, v in metrics.items()}
        print(f"{agent}: {sum(r >= env.solved for r in score)} of {s.seeds} seeds solve it; mean returns {score}")
    draw(path / "curve.png", env, s, curves)
    (path / "metrics.json").write_text(json.dumps(dict(env=str(env), settings=asdict(s), **results)))


if __name__ == "__main__":
    main()
