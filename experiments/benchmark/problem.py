"""The problem that contenders are built for, and the program that they provide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

import jlstm

Net = Literal["lstm", "bidirectional", "stack"]


class Problem(NamedTuple):
    """The sizes, in jlstm's letters. net: one LSTM, two concatenated directions, or two layers."""

    B: int
    T: int
    D: int
    H: int
    net: Net = "lstm"
    dtype: str = "float32"

    @property
    def case(self) -> str:
        return f"{self.B},{self.T},{self.D},{self.H}"


class Program(NamedTuple):
    """A contender's functions. convert: one `LSTMParams` per layer or direction -> its parameters, differentiable.

    forward: (its parameters, x `[B, T, D]`) -> outputs of all steps.
    """

    convert: Callable[[tuple[jlstm.LSTMParams, ...]], Any]
    forward: Callable[[Any, jax.Array], jax.Array]
