"""Files that an earlier jlstm wrote load, and the nets in them give what they gave; `files/README.md` tells of them."""

import contextlib
import hashlib
from pathlib import Path

import jax
import numpy as np
import pytest
from cases import float64
from write_files import outputs

import jlstm

FOLDER = Path(__file__).parent / "files"
FILES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
# The memory is clipped by the cells of the LSTM family, not around a wrapper.
REFUSED = ("ClipState-Zoneout", "ClipState-DropConnect", "ClipState-gates-LSTM", "Stack-ClipState")
# Without a key there is no mean of c, n and m.
NO_MEAN = ("Zoneout-SLSTM",)
CLIPPED = {  # name -> what the net is now
    "ClipState-LSTM": lambda: jlstm.LSTM(2, cell_clip=0.25),
    "ClipState-PeepholeLSTM": lambda: jlstm.PeepholeLSTM(2, cell_clip=0.25),
    "ClipState-CoupledLSTM": lambda: jlstm.CoupledLSTM(2, cell_clip=0.25),
    "ClipState-ProjectedLSTM": lambda: jlstm.ProjectedLSTM(3, 2, cell_clip=0.25),
    "ClipState-LayerNormLSTM": lambda: jlstm.LayerNormLSTM(2, cell_clip=0.25),
    "ClipState-OriginalLSTM": lambda: jlstm.OriginalLSTM(2, cell_clip=0.25),
    "ClipState-twice": lambda: jlstm.LSTM(2, cell_clip=0.25),  # the tighter of two limits is the one that acts
    "Zoneout-ClipState": lambda: jlstm.Zoneout(jlstm.LSTM(2, cell_clip=0.25), 0.1),
    "gates-LSTM": lambda: jlstm.ClipGates(jlstm.LSTM(2), 0.5),
    "gates-PeepholeLSTM": lambda: jlstm.ClipGates(jlstm.PeepholeLSTM(2), 0.5),
    "gates-GRU": lambda: jlstm.ClipGates(jlstm.GRU(2), 0.5),
    "gates-ClipState": lambda: jlstm.ClipGates(jlstm.LSTM(2, cell_clip=0.25), 0.5),
}


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as file:
        return dict(file)


def load(name):
    return jlstm.load(FOLDER / f"{name}.safetensors")


@pytest.mark.parametrize("name", [name for name in FILES if name not in REFUSED])
def test_a_file_loads_and_its_net_gives_what_it_gave(name, expected):
    without, with_key = expected[name]
    # One step of bfloat16 is 2**-8 of the number.
    rtol, atol = (1e-2, 1e-2) if "bfloat16" in name else (0.0, 1e-6)
    with float64() if "float64" in name else contextlib.nullcontext():
        net, params = load(name)
        if name not in NO_MEAN:
            np.testing.assert_allclose(outputs(net, params), without, rtol, atol)
        if not np.array_equal(without, with_key):
            np.testing.assert_allclose(outputs(net, params, jax.random.key(2)), with_key, rtol, atol)


@pytest.mark.parametrize("name", REFUSED)
def test_a_clipped_wrapper_is_refused_in_one_line(name):
    with pytest.raises(ValueError) as caught:
        load(name)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("load: ") and f"{name}.safetensors" in message, message


@pytest.mark.parametrize("name", CLIPPED)
def test_clip_state_is_a_field_or_clip_gates(name):
    net, _ = load(name)
    now = CLIPPED[name]()
    assert net == now and type(net) is type(now) and hash(net) == hash(now)


def test_dtypes_are_names():
    for name, dtypes in {"GRU": ("float32", None), "GRU-options": ("bfloat16", "float32")}.items():
        net, params = load(name)
        found = (net.param_dtype, net.compute_dtype)
        assert found == dtypes and [type(a) for a in found] == [type(a) for a in dtypes]
        assert params.w_ih.dtype == dtypes[0]


def test_the_files_are_those_that_the_readme_names():
    text = (FOLDER / "README.md").read_text()
    lines = [line.split() for line in text.partition("SHA-256:")[2].splitlines() if line.strip()]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.iterdir()}
    del found["README.md"]
    assert {name: digest for digest, name in lines} == found
