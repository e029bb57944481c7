"""The framework's side of all converters: its arrays by key, and its layout of one cell's weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jlstm import checks
from jlstm.cells import LSTMParams
from jlstm.description import show, to_jax
from jlstm.types import GATES


class Layout(NamedTuple):
    """The layout of the G gates of one cell in a framework.

    gates: its order, in our letters.   order: our order.   transposed: weights are `[GH, D]` rather than `[D, GH]`.
    """

    gates: str
    transposed: bool = False
    order: tuple[str, ...] = GATES

    def ours(self, w: np.ndarray) -> np.ndarray:
        """Return a weight as `[D, G, H]`, a bias as `[G, H]`."""
        w = w.T if self.transposed else w
        w = w.reshape(*w.shape[:-1], len(self.gates), w.shape[-1] // len(self.gates))
        return w[..., [self.gates.index(gate) for gate in self.order], :]

    def expected(self, letter: str, rows: int | None, H: int | None) -> tuple[str, list[int | None]]:
        """Return the letters and the shape of a weight with these rows, for `Weights.take`."""
        G = len(self.gates)
        letters, shape = [letter, f"{G}H"], [rows, None if H is None else G * H]
        if self.transposed:
            letters, shape = letters[::-1], shape[::-1]
        return f"[{', '.join(letters)}]", shape

    def theirs(self, w: Any) -> np.ndarray:
        """Return the framework's array: the inverse of `ours`."""
        w = w[..., [self.order.index(gate) for gate in self.gates], :]
        w = w.reshape(*w.shape[:-2], w.shape[-2] * w.shape[-1])
        return np.ascontiguousarray(w.T if self.transposed else w)


def add(*biases: np.ndarray) -> np.ndarray:
    """Return the sum in the dtype of the biases, rounded once."""
    wide = [b.astype(np.promote_types(b.dtype, np.float32)) for b in biases]
    return np.sum(wide, axis=0, dtype=wide[0].dtype).astype(biases[0].dtype)


def gru_bias(b_x: np.ndarray, b_h: np.ndarray) -> np.ndarray:
    """Return our `[4, H]` from a GRU's two biases `[3, H]`. Those of r and z are summed, the candidate's are not."""
    return np.concatenate([add(b_x[:2], b_h[:2]), b_x[2:], b_h[2:]])


def gru_biases(b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the two biases of a GRU: the inverse of `gru_bias`. Where two are summed, the second is 0."""
    return b[:3], np.concatenate([np.zeros_like(b[:2]), b[3:]])


def flatten(tree: Any, separator: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(key, leaf)` of nested mappings, sequences and dataclasses, such as Equinox modules. None has no leaf."""
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(n), value) for n, value in enumerate(tree)]
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        items = [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    elif tree is None:
        return
    else:
        yield path, tree
        return
    for key, value in items:
        yield from flatten(value, separator, path + separator + key if path else key)


def to_numpy(where: str, name: str, value: Any) -> Any:
    """Convert a floating array of NumPy, jax, torch or flax to a NumPy array of the same dtype."""
    if hasattr(value, "detach"):  # a torch tensor; NumPy has no bfloat16, but float32 represents all of its values
        value = value.detach().cpu()
        value = value.float().numpy().astype(jnp.bfloat16) if "bfloat16" in str(value.dtype) else value.numpy()
    if isinstance(value, Tracer) or not hasattr(value, "__array__"):
        got = "a tracer" if isinstance(value, Tracer) else show(value)
        raise checks.problem(where, name, "an array with values", got, kind=TypeError)
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise checks.problem(where, name, "a floating dtype", array.dtype, kind=TypeError)
    return array


class Weights:
    """A framework's arrays by their keys below `prefix`. Every error names the key.

    signs: a pattern that the keys of an LSTM match; it finds the possible prefixes.
    """

    def __init__(self, where: str, tree: Any, prefix: str, separator: str, signs: str) -> None:
        self.where, prefix = where, prefix.rstrip(separator)
        self.start = prefix + separator if prefix else ""
        leaves = dict(flatten(tree, separator))
        self.leaves = {k.removeprefix(self.start): v for k, v in leaves.items() if k.startswith(self.start)}
        if any(re.fullmatch(signs, key) for key in self.leaves):
            return
        sign = re.compile(f"(?:(?P<prefix>.*?){re.escape(separator)})?(?:{signs})")
        found = sorted({match["prefix"] or "" for key in leaves if (match := sign.fullmatch(key))})
        if not found:
            raise checks.problem(where, "weights", f"keys that match {signs}", show(sorted(leaves)))
        raise checks.problem(where, "prefix", "one of " + ", ".join(map(repr, found)), repr(prefix))

    def take(self, key: str, letters: str, shape: Sequence[int | None]) -> np.ndarray:
        """Return the array at `key` and check its shape. None stands for any size."""
        sizes = str(tuple(shape)).replace("None", "any")
        if key not in self.leaves:
            got = f"none, among {show(sorted(self.leaves))}"
            raise checks.problem(self.where, self.start + key, f"{letters} = {sizes}", got)
        array = to_numpy(self.where, self.start + key, self.leaves[key])
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if not fits or 0 in array.shape:
            raise checks.problem(self.where, self.start + key, f"{letters} = {sizes}", array.shape)
        return array

    def products(
        self, layout: Layout, w_ih: str, w_hh: str, input_size: int | None = None, hidden_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `[D, G, H]` and `[H, G, H]` from the arrays at these keys; check the two sizes if they are given."""
        square = self.take(w_hh, *layout.expected("H", hidden_size, hidden_size))
        H = square.shape[1 if layout.transposed else 0]
        recurrent = self.take(w_hh, *layout.expected("H", H, H))
        return layout.ours(self.take(w_ih, *layout.expected("D", input_size, H))), layout.ours(recurrent)

    def biases(self, layout: Layout, H: int, *keys: str) -> list[np.ndarray]:
        """Return the biases at these keys, `[G, H]` each."""
        G = len(layout.gates)
        return [layout.ours(self.take(key, f"[{G}H]", (G * H,))) for key in keys]

    def lstm(self, layout: Layout, w_ih: str, w_hh: str, *biases: str, **sizes: int | None) -> LSTMParams:
        """Return one LSTM's parameters from the arrays at these keys. Biases are summed. sizes: as in `products`."""
        kernel, recurrent = self.products(layout, w_ih, w_hh, **sizes)
        b = add(*self.biases(layout, recurrent.shape[0], *biases)) if biases else None
        return to_params(self.where, LSTMParams, w_ih=kernel, w_hh=recurrent, b=b)


def to_params(where: str, kind: Any, **leaves: np.ndarray | None) -> Any:
    """Return one cell's parameters, of the class `kind`, as jax arrays. A leaf that is not given is None."""
    arrays = {key: None if leaf is None else to_jax(leaf, f"{where}: weights") for key, leaf in leaves.items()}
    return kind(**dict.fromkeys(kind._fields) | arrays)
