"""Programs of users that are too long for the README files."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
from small import equal

import jlstm


def torch_lstm(weights: dict[str, np.ndarray], x: np.ndarray, suffix: str) -> np.ndarray:
    """torch.nn.LSTM as its documentation writes it, one layer and direction; x `[T, B, D]`, the result `[T, B, H]`."""

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-a))

    H = weights[f"weight_hh_{suffix}"].shape[1]
    h, c, outputs = np.zeros((x.shape[1], H)), np.zeros((x.shape[1], H)), []
    for x_t in x[::-1] if suffix.endswith("_reverse") else x:
        z = x_t @ weights[f"weight_ih_{suffix}"].T + weights[f"bias_ih_{suffix}"][None]
        z = z + h @ weights[f"weight_hh_{suffix}"].T + weights[f"bias_hh_{suffix}"][None]
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs[::-1] if suffix.endswith("_reverse") else outputs)


def test_a_bidirectional_port_from_torch():
    rng, (T, B, D, H) = np.random.default_rng(0), (6, 2, 3, 5)
    shapes = {"weight_ih": (4 * H, D), "weight_hh": (4 * H, H), "bias_ih": (4 * H,), "bias_hh": (4 * H,)}
    suffixes = ("l0", "l0_reverse")
    sized = {f"{name}_{suffix}": shape for suffix in suffixes for name, shape in shapes.items()}
    weights = {name: rng.normal(size=shape).astype("float32") for name, shape in sized.items()}
    x = rng.normal(size=(T, B, D)).astype("float32")
    want = np.concatenate([torch_lstm(weights, x, s) for s in suffixes], axis=-1)

    net, params = jlstm.convert.from_torch(weights)
    assert net == jlstm.Bidirectional(jlstm.LSTM(H))
    _, y = jlstm.unroll(net, params, x, time_major=True, return_sequences=True)
    equal(y, want, 1e-5, rtol=1e-7)
    _, y = oracle.bidirectional(*params, x.swapaxes(0, 1), return_sequences=True)
    equal(y.swapaxes(0, 1), want, 1e-6, rtol=1e-7)


def test_a_recurrent_policy_learns_to_remember():
    """REINFORCE. A cue is seen at the first step of an episode only; the action at its last step has to name it."""
    B, T = 64, 12
    last = jnp.arange(B) % 3 + 2  # episodes of 3, 4 and 5 steps, so that they begin at different times
    net = jlstm.Stack((jlstm.LSTM(16), jlstm.Dense(2)))
    params, optimizer = net.init(jax.random.key(0), 2), optax.adam(2e-2)

    def act(params, carry, key):
        """One step of policy and environment in all rows; the state goes on from rollout to rollout."""
        state, cue, clock = carry
        k_cue, k_action = jax.random.split(key)
        first, final = clock == 0, clock == last
        cue = jnp.where(first, jax.random.bernoulli(k_cue, 0.5, (B,)), cue)
        observation = jnp.stack([first * (2.0 * cue - 1.0), 1.0 * final], axis=-1)
        state, logits = jlstm.step(net, params, state, observation, reset=first)
        action = jax.random.categorical(k_action, logits)
        reward = jnp.where(final, jnp.where(action == cue, 1.0, -1.0), 0.0)
        return (state, cue, jnp.where(final, 0, clock + 1)), (observation, first, action, reward, logits)

    def update(carry, key):
        params, opt_state, world = carry
        start = world[0]
        world, rollout = jax.lax.scan(lambda c, k: act(params, c, k), world, jax.random.split(key, T))
        observations, first, actions, rewards, acted = rollout

        def loss_fn(params):
            options = dict(state=start, resets=first, time_major=True, return_sequences=True)
            _, logits = jlstm.unroll(net, params, observations, **options)
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, actions)
            return jnp.mean(nats * rewards), jnp.max(jnp.abs(logits - acted))

        (_, difference), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        score = jnp.sum(rewards) / jnp.sum(rewards != 0)
        return (optax.apply_updates(params, updates), opt_state, world), (score, difference)

    world = (net.initial_state(params, (B,)), jnp.zeros(B, bool), jnp.zeros(B, int))
    start = (params, optimizer.init(params), world)
    _, (scores, differences) = jax.jit(lambda: jax.lax.scan(update, start, jax.random.split(jax.random.key(1), 100)))()
    assert abs(scores[0]) < 0.5 and jnp.mean(scores[-5:]) > 0.9
    assert jnp.max(differences) < 1e-4  # the learner's logits are the actor's
