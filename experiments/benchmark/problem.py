"""What contenders are built from and for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

import jlstm

Net = Literal["lstm", "bidirectional", "stack"]


class Problem(NamedTuple):
    """Sizes, in jlstm's letters. net: one LSTM, two directions joined, or two layers."""

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
    """convert: one `LSTMParams` a layer or direction -> the contender's parameters, differentiable.

    forward: (its parameters, x `[B, T, D]`) -> outputs of all steps.
    """

    convert: Callable[[tuple[jlstm.LSTMParams, ...]], Any]
    forward: Callable[[Any, jax.Array], jax.Array]
