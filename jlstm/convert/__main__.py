"""Convert a file of weights to another format: `python -m jlstm.convert in.pt out.safetensors`.

IN: a file of `jlstm.save`; a torch checkpoint (read with weights_only=True, so nothing in it is executed); any other
safetensors or npz file, whose framework is detected from its tensor names; or an ONNX file, which must end in .onnx.
OUT: the ending or --to sets the format. A framework's weights are written as safetensors with the framework's names,
torch's also as a checkpoint.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import re
import sys
import zipfile
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jlstm import checks, convert, files
from jlstm.convert.weights import flatten, to_numpy
from jlstm.description import one_line, show

# Patterns of tensor names by framework. A torch LSTMCell without biases has the same names as Equinox's.
_NAMES = {
    "torch": r"(.*\.)?((weight|bias)_[ih]h_l\d+(_reverse)?|bias_[ih]h)",
    "equinox": r"(.*\.)?weight_[ih]h",
    "flax": r"(.*/)?(ii|dense_i)/kernel",
    "keras": r"(.*/)?recurrent_kernel",
    "haiku": r"(.*/)?linear/w",
}
_WRITTEN = ("torch", "flax", "haiku", "equinox")  # written as named tensors; Keras takes a list


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return the exit code: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser("python -m jlstm.convert", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT", nargs="?")
    parser.add_argument("--to", choices=("jlstm", "onnx", *_WRITTEN), help="default: from OUT's ending, else jlstm")
    parser.add_argument("--prefix", help="the path of the LSTM in IN, such as encoder.lstm")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a setting not in IN")
    parser.add_argument("--describe", action="store_true", help="print the net and its parameters")
    options = parser.parse_args(arguments)
    if options.target is None and not options.describe:
        parser.error("OUT or --describe is required")
    try:
        net, params = read(options.source, options.prefix, dict(map(_option, options.option)))
        if options.target is not None:
            write(options.target, net, params, options.to)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        print(one_line(str(error)) if isinstance(error, OSError) else error, file=sys.stderr)
        return 2
    if options.describe:
        print(net)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            print(f"params{jax.tree_util.keystr(path)}  {leaf.dtype}  {list(leaf.shape)}")
    return 0


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def read(path: str, prefix: str | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """Read `(net, params)` from a file. options: the keyword arguments of the framework's `from_X`."""
    framework, weights = _open(path)
    if framework == "jlstm" and not options and prefix is None:
        return weights
    options = (options or {}) | ({} if prefix is None else {"prefix": prefix})
    reader = getattr(convert, f"from_{framework}", files.load)
    known = [name for name, p in inspect.signature(reader).parameters.items() if p.kind is p.KEYWORD_ONLY]
    known = [] if framework == "jlstm" else known
    if unknown := sorted(set(options) - set(known)):
        raise checks.problem("convert", unknown[0], f"one of {known} for {framework}", show(options[unknown[0]]))
    return reader(weights, **options)


def _open(path: str) -> tuple[str, Any]:
    """Return the framework of a file's weights, and the argument for its `from_X`."""
    with open(path, "rb") as file:
        start = file.read(16)
    if os.path.splitext(path)[1] == ".onnx":
        return "onnx", path
    if start[8:9] == b"{":
        with safetensors.safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
            if "jlstm" in (file.metadata() or {}):
                return "jlstm", files.load(path)
        return _told_by_names(path, safetensors.numpy.load_file(path))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if all(name.endswith(".npy") for name in file.namelist()):
                with np.load(path, allow_pickle=False) as arrays:
                    return _told_by_names(path, dict(arrays))
            checkpoint = any(name.endswith("data.pkl") for name in file.namelist())
    else:
        checkpoint = start[:1] == b"\x80"  # from before torch 1.6
    if not checkpoint:
        expected = "a file of jlstm.save, a torch checkpoint, safetensors, npz, or a name that ends in .onnx"
        raise checks.problem("convert", path, expected, f"a file that begins with {start!r}")
    return _told_by_names(path, _torch_load(path))


def _torch_load(path: str) -> Any:
    import pickle

    try:
        return _torch().load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        hint = one_line(str(error))
        raise checks.problem("convert", path, "only tensors, since weights_only=True", "other objects", hint) from None


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError(
            "convert: torch is not installed, and its checkpoints need it. Type pip install torch."
        ) from None
    return torch


def _told_by_names(path: str, weights: Any) -> tuple[str, Any]:
    names = [name for name, _ in flatten(weights, ".")]
    for framework, pattern in _NAMES.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return framework, weights
    raise checks.problem("convert", path, "names of " + ", ".join(_NAMES), show(names))


def write(path: str, net: Any, params: Any, to: str | None = None) -> None:
    """Write a net in the format `to`. None takes the format from the path's ending."""
    ending = os.path.splitext(path)[1]
    to = to or {".onnx": "onnx", ".pt": "torch", ".pth": "torch"}.get(ending, "jlstm")
    endings = {"onnx": (".onnx",), "torch": (".pt", ".pth", ".safetensors")}.get(to, (".safetensors",))
    if ending not in endings:
        raise checks.problem("convert", "OUT", f"a name for {to} that ends in " + " or ".join(endings), repr(path))
    if to == "jlstm":
        return files.save(path, net, params)
    if to == "onnx":
        return convert.to_onnx(net, params, path)
    tensors = {key: to_numpy("convert", key, a) for key, a in flatten(getattr(convert, f"to_{to}")(net, params), "/")}
    if ending == ".safetensors":
        return safetensors.numpy.save_file(tensors, path)
    torch = _torch()
    # torch.from_numpy does not support bfloat16; float32 represents all of its values.
    narrow = {key: a.dtype.name == "bfloat16" for key, a in tensors.items()}
    made = {key: torch.from_numpy(a.astype("float32") if narrow[key] else a) for key, a in tensors.items()}
    torch.save({key: a.bfloat16() if narrow[key] else a for key, a in made.items()}, path)
    return None


if __name__ == "__main__":
    sys.exit(main())
