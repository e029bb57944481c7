"""Time MinLSTM's two forms, the loop and the parallel one: `python -m experiments.benchmark.linear`.

One line per shape (B, T, D, H), float32, for forward and forward+backward with all outputs: milliseconds of the loop
("hoisted"), and the ratio of "associative" to it in the same round; medians over rounds. Above 1 the loop is faster.
"""

from __future__ import annotations

import sys
from typing import Literal

import jax
import jax.numpy as jnp

import jlstm
from experiments import device
from experiments.benchmark import timing

SHAPES = (
    (1, 16, 8, 8),
    (32, 100, 16, 64),
    (32, 256, 16, 128),
    (1, 4096, 16, 32),
    (1, 4096, 16, 256),
    (1, 65536, 16, 16),
)
ROUNDS = 21


def calls(B: int, T: int, D: int, H: int) -> dict[str, timing.Call]:
    """Return the calls by backend and kind."""
    net = jlstm.MinLSTM(H)
    params, x = net.init(jax.random.key(0), D), jax.random.normal(jax.random.key(1), (B, T, D))

    def call(backend: Literal["hoisted", "associative"], backward: bool) -> timing.Call:
        def outputs(params: jlstm.cells.MinLSTMParams, x: jax.Array) -> jax.Array:
            return jlstm.unroll(net, params, x, return_sequences=True, backend=backend)[1]

        def loss(params: jlstm.cells.MinLSTMParams, x: jax.Array) -> jax.Array:
            return jnp.sum(outputs(params, x) ** 2)

        f = jax.jit(jax.grad(loss, (0, 1)) if backward else outputs)
        return lambda: f(params, x)

    kinds = {"forward": False, "both": True}
    loop = {f"hoisted {kind}": call("hoisted", backward) for kind, backward in kinds.items()}
    return loop | {f"associative {kind}": call("associative", backward) for kind, backward in kinds.items()}


def main() -> int:
    print(device.describe())
    for shape in SHAPES:
        times = timing.rounds(calls(*shape), ROUNDS)
        parts = []
        for kind in ("forward", "both"):
            summary = timing.summarise({name: t for name, t in times.items() if kind in name}, f"hoisted {kind}")
            loop, parallel = summary[f"hoisted {kind}"], summary[f"associative {kind}"]
            parts.append(f"{kind} {1e3 * loop.median:.2f} ms, x{parallel.ratio:.2f}")
        print(f"{shape}: {' · '.join(parts)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
