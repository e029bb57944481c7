"""Recurrent PPO: the learner sees what the actor saw, the environments keep their rules, and a run writes its files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from experiments import recurrent_ppo
from experiments.recurrent_ppo import EAST, NORTH, SOUTH, WEST, CartPole, Settings, TMaze


@pytest.mark.parametrize("memoryless", [False, True])
def test_the_learner_computes_the_actors_log_probabilities(memoryless: bool) -> None:
    T, B, rows = 20, 8, jnp.array([6, 1, 3])
    net = recurrent_ppo.make_net(Settings(hidden=7), 4, memoryless=memoryless)
    params = net.init(jax.random.key(0), 3)
    keys = jax.random.split(jax.random.key(1), 3)
    # Heads start near 0; large weights make every step count.
    params = jax.tree.map(lambda a: a + 0.5 * jax.random.normal(keys[0], a.shape), params)
    first = jax.random.bernoulli(keys[1], 0.2, (T, B)).at[0, :4].set(True)
    ends = jnp.concatenate([first[1:], jnp.zeros((1, B), bool)])
    observation = jnp.where(ends[..., None], jnp.nan, jax.random.normal(keys[2], (T, B, 3)))
    # Earlier episodes left a NaN where a rollout begins with a reset, and something else where it does not.
    memory = jax.tree.map(
        lambda a: jnp.where(first[0][:, None], jnp.nan, a + 0.3), net.initial_state(params, batch_shape=(B,))
    )

    def act(memory, now):
        memory, *read = recurrent_ppo.act(net, params, memory, *now)
        return memory, read

    _, acted = jax.lax.scan(act, memory, (observation, first))
    learned = recurrent_ppo.look_back(net, params, memory, observation, first)
    for a, b in zip(acted, learned, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.isnan(b[ends]).all() and np.isfinite(b[~ends]).all()
    began = jax.tree.map(lambda a: a[rows], memory)
    log_probs, _ = recurrent_ppo.look_back(net, params, began, observation[:, rows], first[:, rows])
    np.testing.assert_allclose(log_probs, learned[0][:, rows], atol=1e-6)
    np.testing.assert_allclose(jnp.exp(log_probs[~ends[:, rows]]).sum(-1), 1.0, atol=1e-5)


def play(env, state, actions):
    """The observations, rewards and ends of some actions, as lists, and the state after them."""
    seen, rewards, ends = [], [], []
    step = jax.jit(env.step)
    for action in actions:
        observation, state, reward, done, _ = step(jax.random.key(0), state, action)
        seen.append(observation.tolist())
        rewards.append(round(float(reward), 6))
        ends.append(bool(done))
    return seen, rewards, ends, state


def test_the_tmaze_keeps_its_rules() -> None:
    env, corridor, junction = TMaze(3), [1, 0, 1], [0, 1, 0]
    cues = {}
    for seed in range(20):
        observation, state = env.reset(jax.random.key(seed))
        cues[bool(state[1])] = (observation.tolist(), state)
    assert {north: cue for north, (cue, _) in cues.items()} == {True: [0, 1, 1], False: [1, 1, 0]}
    for north, (cue, start) in cues.items():
        right, wrong = (NORTH, SOUTH) if north else (SOUTH, NORTH)
        seen, rewards, ends, state = play(env, start, [EAST, EAST, EAST])
        assert seen == [corridor, corridor, junction] and rewards == [0, 0, 0] and not any(ends)
        assert play(env, state, [right])[1:3] == ([4.0], [True])
        assert play(env, state, [wrong])[1:3] == ([-0.1], [True])
        # Walls on all sides: at the start, in the corridor, behind the junction. The way back shows the cue again.
        seen, rewards, ends, _ = play(env, start, [WEST, NORTH, EAST, NORTH, SOUTH, WEST])
        assert seen == [cue, cue, corridor, corridor, corridor, cue] and not any(ends)
        assert rewards == [-0.1, -0.1, 0, -0.1, -0.1, 0]
        assert play(env, state, [EAST, WEST])[:3] == ([junction, corridor], [-0.1, 0], [False, False])
        assert play(env, start, [WEST] * 45)[2] == [False] * 44 + [True]


def numpy_cart_pole(x, x_speed, θ, θ_speed, action):
    """One Euler step, with the accelerations solved from the two equations of motion in their usual form."""
    m, M, l, g, τ, F = 0.1, 1.0, 0.5, 9.8, 0.02, 10.0 if action else -10.0
    # (M + m) x'' + m l cos θ θ'' = F + m l sin θ θ'^2  and  cos θ x'' + 4/3 l θ'' = g sin θ
    left = np.array([[M + m, m * l * np.cos(θ)], [np.cos(θ), 4 / 3 * l]])
    x_rate, θ_rate = np.linalg.solve(left, [F + m * l * np.sin(θ) * θ_speed**2, g * np.sin(θ)])
    return np.array([x + τ * x_speed, x_speed + τ * x_rate, θ + τ * θ_speed, θ_speed + τ * θ_rate])


def test_the_cart_pole_keeps_its_rules() -> None:
    env, random = CartPole(), np.random.default_rng(0)
    for seed in range(3):
        observation, (body, time) = env.reset(jax.random.key(seed))
        assert np.abs(body).max() <= 0.05 and np.ptp(body) > 0 and time == 0
        np.testing.assert_allclose(observation, [body[0] / 2.4, body[2] / np.deg2rad(12)], rtol=1e-6)
    body = random.uniform(-1, 1, (300, 4)) * [2.8, 3.0, np.deg2rad(14), 3.0]
    action, time = random.integers(2, size=300), random.integers(490, 503, size=300)
    step = jax.vmap(env.step, (None, (0, 0), 0))
    observation, (moved, after), reward, done, _ = step(jax.random.key(0), (jnp.float32(body), time), action)
    want = np.array([numpy_cart_pole(*row, a) for row, a in zip(body, action, strict=True)])
    np.testing.assert_allclose(moved, want, atol=1e-5)
    np.testing.assert_allclose(observation, want[:, [0, 2]] / [2.4, np.deg2rad(12)], atol=1e-5)
    fallen = (np.abs(want[:, 0]) > 2.4) | (np.abs(want[:, 2]) > np.deg2rad(12))
    np.testing.assert_array_equal(done, fallen | (time + 1 >= 500))
    assert (reward == 1).all() and (after == time + 1).all() and 0 < fallen.sum() < 300


def test_gae_is_the_loop() -> None:
    T, B, γ, λ = 12, 5, 0.9, 0.8
    random = np.random.default_rng(0)
    reward, value, done = random.normal(size=(T, B)), random.normal(size=(T, B)), random.uniform(size=(T, B)) < 0.3
    last_value = random.normal(size=B)
    want, later, next_value = np.zeros((T, B)), np.zeros(B), last_value
    for t in reversed(range(T)):
        for b in range(B):
            going = 0.0 if done[t, b] else 1.0
            later[b] = reward[t, b] + γ * going * next_value[b] - value[t, b] + γ * λ * going * later[b]
        want[t], next_value = later, value[t]
    got = recurrent_ppo.gae(*map(jnp.float32, (reward, value)), jnp.array(done), jnp.float32(last_value), γ, λ)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.slow
def test_the_command_writes_its_files(elsewhere: None, tmp_path, capsys) -> None:
    tiny = dict(corridor=1, seeds=2, updates=3, environments=4, rollout=8, epochs=1, minibatches=2, hidden=3)
    recurrent_ppo.main(["--env", "tmaze", *(f"--{name}={value}" for name, value in tiny.items())])
    path = tmp_path / "runs/recurrent_ppo/tmaze-1"
    weights = [f"{agent}-{seed}.safetensors" for agent in ("lstm", "memoryless") for seed in (0, 1)]
    assert sorted(file.name for file in path.iterdir()) == ["curve.png", *weights, "metrics.json"]
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["settings"]["hidden"] == 3 and metrics["settings"]["discount"] == 0.99
    for agent in ("lstm", "memoryless"):
        episodes, total = (np.array(metrics[agent][name]) for name in ("episodes", "total_return"))
        assert episodes.shape == total.shape == (2, 3) and episodes.sum() > 0 and (total <= 4 * episodes).all()
    assert capsys.readouterr().out.count("lstm: update") == 6
    net, params = jlstm.load(path / "lstm-1.safetensors")
    assert jlstm.step(net, params, None, jnp.ones((2, 3)))[1].shape == (2, 5)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--env", "maze"], "invalid choice: 'maze'"),
        (["--corridor", "0"], "--corridor 0 is out of range"),
        (["--env", "cartpole", "--seeds", "x"], "invalid int value: 'x'"),
        (["--learning-rate", "nan"], "--learning-rate nan is out of range"),
        (["--minibatches", "3"], "--environments 64 do not divide into 3 minibatches"),
        (["--name", "file/run"], "file"),
        (["--steps", "3"], "--steps"),
    ],
)
def test_a_bad_option_is_one_line(options: list[str], words: str, elsewhere: None, tmp_path, capsys) -> None:
    (tmp_path / "runs/recurrent_ppo").mkdir(parents=True)
    (tmp_path / "runs/recurrent_ppo/file").touch()
    with pytest.raises(SystemExit) as refused:
        recurrent_ppo.main(options)
    said = capsys.readouterr().err
    assert refused.value.code == 2 and said.count("\n") == 1 and words in said, said


@pytest.mark.slow
def test_an_lstm_solves_the_tmaze_and_a_net_without_memory_does_not(elsewhere: None, tmp_path) -> None:
    recurrent_ppo.main(["--corridor", "10", "--seeds", "1", "--updates", "80"])
    metrics = json.loads((tmp_path / "runs/recurrent_ppo/tmaze-10/metrics.json").read_text())
    assert metrics["lstm"]["score"][0] > TMaze.solved
    assert metrics["memoryless"]["score"][0] < 2.5  # every second turn is right
