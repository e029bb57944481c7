"""No program of ours calls LAPACK or FFT.

On a CPU such a call hands work to the pool of threads that it runs on, and waits for it. A program that makes as many
of these calls at once as the pool has threads hangs for ever: jax 0.10.2 with two cores needed two layers.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import cases
import covering
import jax
import numpy as np
import pytest
from small_run import ADDING, TINY

import jlstm
from experiments.run import main

ROOT = Path(__file__).parents[2]
CALLS = re.compile(r"custom_call @\w*(?:lapack|blas|solver|fft)\w*|stablehlo\.(?:fft|cholesky|triangular_solve)")

MANY_INITS = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # before XLA counts the cores
import jax, jlstm
for net in (jlstm.Bidirectional(jlstm.LSTM(64)), jlstm.Stack((jlstm.LSTM(64),) * 3)):
    init = jax.jit(lambda key: net.init(key, 12))
    for i in range(400):
        jax.block_until_ready(init(jax.random.key(i)))
"""


@pytest.mark.slow
def test_a_compiled_init_does_not_hang():
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", MANY_INITS], env=environment, cwd=ROOT, check=True, timeout=120)


def test_the_pattern_sees_a_call():
    text = jax.jit(lambda x: jax.numpy.fft.fft(jax.numpy.linalg.qr(x)[0])).lower(np.eye(3)).as_text()
    assert len(set(CALLS.findall(text))) >= 2, text


@pytest.mark.parametrize("name", covering.thinned(cases.ROWS, 2))
def test_no_net_calls_lapack(name):
    net, rng = cases.ROWS[name], np.random.default_rng(0)
    x = cases.random_inputs(rng, net, (2, 3), "float32")

    def program(key):
        params = net.init(key, cases.D if net.feature_axes else None)

        def loss(params):
            return sum(map(jax.numpy.sum, jax.tree.leaves(jlstm.unroll(net, params, x, key=key))))

        return jax.value_and_grad(loss)(params)

    assert not CALLS.findall(jax.jit(program).lower(jax.random.key(0)).as_text())


@pytest.mark.usefixtures("elsewhere", "no_pictures")
def test_no_program_of_a_run_calls_lapack(tmp_path):
    jax.clear_caches()  # else a program that an earlier test compiled leaves no text
    jax.config.update("jax_dump_ir_to", str(tmp_path / "programs"))
    try:
        assert main([ADDING, *TINY, "run.dir=r"]) == 0
    finally:
        jax.config.update("jax_dump_ir_to", None)
    texts = [path.read_text() for path in (tmp_path / "programs").iterdir()]
    assert any("stablehlo.while" in text for text in texts)
    assert not any(CALLS.search(text) for text in texts)


def test_no_source_names_them():
    """Nor does a path that no test compiles. NumPy's own may be called on the host, outside of any program."""
    for path in [*(ROOT / "jlstm").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("linalg", "fft", "orthogonal"):
                assert ast.unparse(node) == "np.linalg", f"{path}: {ast.unparse(node)}"
