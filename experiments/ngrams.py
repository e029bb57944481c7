"""Baselines of the character language model: bz2 and Witten-Bell n-grams on the same held-out bytes."""

import bz2
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]
Keys: TypeAlias = npt.NDArray[np.uint64]
Integers: TypeAlias = npt.NDArray[np.int64]

ORDERS = (3, 4, 5)
MAX_ORDER = 7  # context and byte are packed in one uint64


def baselines(train: Bytes, held_out: Bytes) -> dict[str, float]:
    """Return the bits per character (a character is a byte) on `held_out`, uint8 `[M]`, by baseline.

    `"bz2"` is `8 * len(bz2.compress(held_out, 9)) / M`. It does not use `train`, uint8 `[N]`, since bz2 sorts blocks of
    900 kB and could not look back at it. `"witten-bell-n"`, n = 3, 4, 5, uses the `probabilities` of order n.

    Raises the errors of `probabilities`.
    """
    _check("baselines", train, held_out, max(ORDERS))
    result = {"bz2": 8 * len(bz2.compress(held_out.tobytes(), 9)) / len(held_out)}
    for order, p in enumerate(_interpolate(train, held_out, max(ORDERS))):
        if order in ORDERS:
            result[f"witten-bell-{order}"] = float(-np.log2(p).mean())
    return result


def probabilities(train: Bytes, text: Bytes, order: int) -> Floats:
    """Return P(byte t of `text` | the `order` bytes before it), float64 `[M]`, by interpolated Witten-Bell on `train`.

    Pₙ(w | h) = (c(hw) + T(h) Pₙ₋₁(w | h')) / (c(h) + T(h)),    P₋₁(w) = 1/256

    with c the counts in `train`, uint8 `[N]`, T(h) the number of distinct bytes after h, and h' the context h without
    its first byte; Pₙ = Pₙ₋₁ where h never occurred. The first bytes of `text`, uint8 `[M]`, have shorter contexts.
    Nothing is learnt from `text`.

    The order n is the number of bytes of context, as in data compression: order 3 counts 4-grams. (Language modelling,
    Chen & Goodman included, calls that order 4.)

    Raises TypeError for arrays other than uint8 of rank 1; ValueError for an order outside 0 .. 7, an empty `text` and
    a `train` of `order` bytes or fewer.

    Source: Witten & Bell 1991 (method C), in the interpolated form of Chen & Goodman 1998, "Witten-Bell smoothing".
    """
    if not 0 <= order <= MAX_ORDER:
        raise ValueError(f"probabilities: order: expected 0 .. {MAX_ORDER} bytes of context, got {order}.")
    _check("probabilities", train, text, order)
    return _interpolate(train, text, order)[-1]


class _Counts(NamedTuple):
    """The counts of one order, K distinct n-grams with C distinct contexts, both ascending."""

    grams: Keys  # [K], hw
    gram_count: Integers  # [K], c(hw)
    contexts: Keys  # [C], h
    context_count: Integers  # [C], c(h)
    followers: Integers  # [C], T(h)


def _interpolate(train: Bytes, text: Bytes, order: int) -> list[Floats]:
    """Return P of the bytes of `text`, `[M]`, for each of the orders 0 .. `order`."""
    p = np.full(len(text), 1 / 256)
    result: list[Floats] = []
    for n in range(order + 1):
        counts = _count(train, n)
        grams = _pack(text, n)
        c_hw, _ = _look_up(counts.grams, counts.gram_count, grams)
        c_h, where = _look_up(counts.contexts, counts.context_count, grams >> np.uint64(8))
        seen = c_h > 0
        t_h = np.where(seen, counts.followers[where], 1)  # unseen: (0 + 1 p) / (0 + 1), the lower order
        p = p.copy()
        p[n:] = (c_hw + t_h * p[n:]) / (c_h + t_h)
        result.append(p)
    return result


def _count(train: Bytes, order: int) -> _Counts:
    """Count every (order + 1)-gram of `train` by sorting: no loop over characters, 8 bytes per character."""
    grams, gram_count = np.unique(_pack(train, order), return_counts=True)
    context = grams >> np.uint64(8)  # ascending like grams, so the followers of a context lie side by side
    first = np.flatnonzero(np.concatenate([[True], context[1:] != context[:-1]]))
    return _Counts(
        grams=grams,
        gram_count=gram_count,
        contexts=context[first],
        context_count=np.add.reduceat(gram_count, first),
        followers=np.diff(first, append=len(grams)),
    )


def _pack(text: Bytes, order: int) -> Keys:
    """Pack each byte of `text` and the `order` bytes before it into one number: uint64 `[max(M - order, 0)]`."""
    keys = np.zeros(max(len(text) - order, 0), np.uint64)
    for i in range(order + 1):
        keys <<= np.uint64(8)
        keys |= text[i : i + len(keys)]
    return keys


def _look_up(keys: Keys, values: Integers, wanted: Keys) -> tuple[Integers, Integers]:
    """Return the value of each wanted key, 0 if `keys` lacks it, and an index into `keys`, the key's if it is there."""
    where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[where] == wanted, values[where], 0), where


def _check(function: str, train: Bytes, text: Bytes, order: int) -> None:
    """Raise the errors that `probabilities` names."""
    for name, given in (("train", train), ("text", text)):
        if given.dtype != np.uint8 or given.ndim != 1:
            raise TypeError(f"{function}: {name}: expected uint8 of rank 1, got {given.dtype} {list(given.shape)}.")
    if len(train) <= order:
        raise ValueError(f"{function}: train: expected more than {order} bytes for order {order}, got {len(train)}.")
    if len(text) == 0:
        raise ValueError(f"{function}: text: expected at least one byte to predict, got none.")
