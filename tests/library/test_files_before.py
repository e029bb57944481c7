"""Files that an earlier jlstm wrote load, and the nets in them give what they gave; `files/README.md` tells of them."""

import hashlib
from pathlib import Path

import covering
import jax
import numpy as np
import pytest
from small import equal
from write_files import outputs

import jlstm

FOLDER = Path(__file__).parent / "files"
FILES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
# The memory is clipped by the cells of the LSTM family, not around a wrapper.
REFUSED = ("ClipState-Zoneout", "ClipState-DropConnect", "ClipState-gates-LSTM", "Stack-ClipState")
# Without a key there is no mean of c, n and m.
NO_MEAN = ("Zoneout-SLSTM",)
FAMILY = (jlstm.LSTM, jlstm.PeepholeLSTM, jlstm.CoupledLSTM, jlstm.LayerNormLSTM, jlstm.OriginalLSTM)
CLIPPED = {  # name -> the net as it is now
    **{f"ClipState-{cell.__name__}": cell(2, cell_clip=0.25) for cell in FAMILY},
    "ClipState-ProjectedLSTM": jlstm.ProjectedLSTM(3, 2, cell_clip=0.25),
    "ClipState-twice": jlstm.LSTM(2, cell_clip=0.25),  # the tighter of two limits is the one that acts
    "Zoneout-ClipState": jlstm.Zoneout(jlstm.LSTM(2, cell_clip=0.25), 0.1),
    **{f"gates-{cell.__name__}": jlstm.ClipGates(cell(2), 0.5) for cell in (*FAMILY[:2], jlstm.GRU)},
    "gates-ClipState": jlstm.ClipGates(jlstm.LSTM(2, cell_clip=0.25), 0.5),
}


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as file:
        return dict(file)


def load(name):
    return jlstm.load(FOLDER / f"{name}.safetensors")


@pytest.mark.parametrize("name", covering.thinned([name for name in FILES if name not in REFUSED], 2))
def test_a_file_loads_and_its_net_gives_what_it_gave(name, expected, request):
    if "float64" in name:
        request.getfixturevalue("x64")
    net, params = load(name)
    without, with_key = expected[name]
    close = dict(tolerance=1e-6, rtol=0.0)
    if "bfloat16" in name:  # one step is 2**-8 of the number
        close = dict(tolerance=1e-2)
    if name not in NO_MEAN:
        equal(outputs(net, params), without, **close)
    if not np.array_equal(without, with_key):
        equal(outputs(net, params, jax.random.key(2)), with_key, **close)


@pytest.mark.parametrize("name", REFUSED)
def test_a_clipped_wrapper_is_refused_in_one_line(name):
    with pytest.raises(ValueError) as caught:
        load(name)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("load: ") and f"{name}.safetensors" in message, message


@pytest.mark.parametrize("name", CLIPPED)
def test_clip_state_is_a_field_or_clip_gates(name):
    (net, _), now = load(name), CLIPPED[name]
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
