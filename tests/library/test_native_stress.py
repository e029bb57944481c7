"""The native kernel under load: sanitizers, many threads, many calls, and processes that are forked or spawned."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, which builds the native kernel"),
]
ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "jlstm/kernels/native/src"
OPTIMIZED = ["-O3", "-ffp-contract=fast"]  # as setup.py builds it


def ended(command: list, timeout: float) -> str:
    """Run a command with XLA's defaults, and return its output; it must end with status 0."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JLSTM_BACKEND")}
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done.stdout


# ---- without JAX


@pytest.mark.parametrize("sanitizer", ["", "thread", "address,undefined"], ids=lambda s: s or "optimized")
def test_the_kernel_alone(sanitizer, tmp_path):
    """Any number of threads gives the same bits, every instruction set the same numbers, and no call waits for ever.

    The sanitizers see the kernel without JAX, whose own code was not compiled for them.
    """
    flags = ["-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"] if sanitizer else OPTIMIZED
    sources = [ROOT / "tests/support/native_stress.cc", *(SOURCES / f"{s}.cc" for s in ("portable", "avx2", "avx512"))]
    program = tmp_path / "native_stress"
    compiler = ["g++", "-std=c++17", "-pthread", "-Wno-psabi", *flags]
    ended([*compiler, "-I", SOURCES, *sources, "-o", program], timeout=300)
    assert "calls agree" in ended([program], timeout=300)


# ---- with JAX

MANY_CALLS = """
import os, re
from concurrent.futures import ThreadPoolExecutor
import jax, jax.numpy as jnp, numpy as np, jlstm

CALLS, FIRST, THREADS = 10_000, 2_000, 8
sizes = [(1, 3), (2, 5), (7, 4), (8, 9), (16, 12), (17, 6)]
nets = [jlstm.Bidirectional(jlstm.LSTM(a), jlstm.LSTM(b)) for a, b in sizes]  # 12 LSTMs
params = [net.init(jax.random.key(n), 3) for n, net in enumerate(nets)]
x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7, 3)), "float32")
lengths = jnp.array([7, 1, 4, 0, 6])

@jax.jit
def step(params, x):
    def loss(params, x):
        ys = [
            jlstm.unroll(net, p, x, lengths=lengths, return_sequences=True, backend="native")[1]
            for net, p in zip(nets, params)
        ]
        return sum(jnp.sum(y**2) for y in ys), ys

    gradients, ys = jax.grad(loss, (0, 1), has_aux=True)(params, x)
    return jnp.concatenate([a.ravel() for a in jax.tree.leaves((gradients, ys))])

text = step.lower(params, x).as_text()
for name in ("forward", "backward"):
    assert len(re.findall(rf"custom_call @jlstm_lstm_{name}\\b", text)) == 12, text
expected = np.asarray(step(params, x)).tobytes()

def call(n):
    return sum(np.asarray(step(params, x)).tobytes() != expected for _ in range(n))

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

with ThreadPoolExecutor(THREADS) as pool:
    different = sum(pool.map(call, [FIRST // THREADS] * THREADS))
    before = resident()
    different += sum(pool.map(call, [(CALLS - FIRST) // THREADS] * THREADS))
    after = resident()
assert different == 0, f"{different} calls gave other bits"
assert np.isfinite(np.frombuffer(expected, "float32")).all()
print(after - before)
"""


def test_many_calls_from_many_threads():
    """10,000 calls from 8 threads of a program with 12 LSTMs: the same bits each time, and no growth in memory."""
    grown = float(ended([sys.executable, "-c", MANY_CALLS], timeout=300))
    assert grown < 4, f"resident memory grew by {grown:.1f} MiB in 8,000 calls"


IN_A_CHILD = """
import multiprocessing, sys
import jax, jax.numpy as jnp, numpy as np, jlstm

def values(seed):
    net = jlstm.LSTM(9)
    params = net.init(jax.random.key(seed), 3)
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(6, 5, 3)), "float32")

    @jax.jit
    def both(params, x):
        def loss(params, x):
            return jnp.sum(jlstm.unroll(net, params, x, return_sequences=True, backend="native")[1] ** 2)

        return jax.value_and_grad(loss, (0, 1))(params, x)

    assert "jlstm_lstm_backward" in both.lower(params, x).as_text()
    return [np.asarray(a).tobytes() for a in jax.tree.leaves(both(params, x))]

if __name__ == "__main__":
    method, seeds = sys.argv[1], range(4)
    expected = list(map(values, seeds)) if method == "spawn" else None
    with multiprocessing.get_context(method).Pool(2) as pool:
        expected = expected or list(map(values, seeds))  # after the fork
        assert pool.map(values, seeds) == expected
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_child_process(method, tmp_path):
    """Children compute what their parent does.

    With "fork" they begin before the parent uses JAX. JAX itself does not support a fork after its threads run: the
    child is without these threads, and may wait for them for ever.
    """
    (tmp_path / "in_a_child.py").write_text(IN_A_CHILD)  # a file, from which a spawned child imports `values`
    ended([sys.executable, tmp_path / "in_a_child.py", method], timeout=300)
