"""The first experiment of the LSTM's paper of 1997."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jlstm
from experiments.tasks import reber


@pytest.mark.slow
def test_the_original_learns_the_embedded_reber_grammar():
    """By the paper's learning rule, as its section 5.1 has it: all symbols that may come next, and no others, are the
    most active ones, at every step of 256 strings held out; at least 4 of 5 seeds."""
    longest, steps = 40, 3000
    net = jlstm.Stack((jlstm.OriginalLSTM(16, block_size=2, truncated_gradient=True), jlstm.Dense(len(reber.SYMBOLS))))
    training, held_out = (reber.strings(jax.random.key(seed), n, longest) for seed, n in ((0, 8192), (1, 256)))
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, steps)))

    def predict(params, strings):
        x = jax.nn.one_hot(strings.tokens[:, :-1], len(reber.SYMBOLS))
        logits = jlstm.unroll(net, params, x, lengths=strings.lengths - 1, return_sequences=True)[1]
        return logits, jlstm.sequence_mask(strings.lengths - 1, longest - 1)

    def loss(params, strings):
        logits, there = predict(params, strings)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, strings.tokens[:, 1:]), where=there)

    @jax.jit
    @jax.vmap
    def share_of_strings_right(key):
        def train(carry, key):
            params, adams = carry
            rows = jax.random.randint(key, (16,), 0, 8192)
            gradient = jax.grad(loss)(params, jax.tree.map(lambda a: a[rows], training))
            updates, adams = adam.update(gradient, adams)
            return (optax.apply_updates(params, updates), adams), None

        k_init, k_rows = jax.random.split(key)
        params = net.init(k_init, len(reber.SYMBOLS))
        (params, _), _ = jax.lax.scan(train, (params, adam.init(params)), jax.random.split(k_rows, steps))
        logits, there = predict(params, held_out)
        legal = held_out.legal[:, :-1]
        weakest = jnp.min(jnp.where(legal, logits, jnp.inf), -1)
        right = weakest > jnp.max(jnp.where(legal, -jnp.inf, logits), -1)
        return jnp.mean(jnp.all(right | ~there, axis=1))

    shares = share_of_strings_right(jax.random.split(jax.random.key(0), 5))
    assert np.sum(shares == 1.0) >= 4, shares
