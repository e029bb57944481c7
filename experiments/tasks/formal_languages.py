"""Parity, even pairs, cycle navigation and simple modular arithmetic, by the protocol of Delétang et al. (2022).

A finite automaton solves each of the four. A net is trained on strings of lengths 1 to 40 and scored by its accuracy
averaged over the lengths 41 to 500. It can only be right there if it has found the automaton. One more symbol follows
the string; the net answers at this symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import UsageError
from experiments.schema import Config
from experiments.task_schema import FormalLanguage
from experiments.tasks.findings import ByLength, Findings
from experiments.tasks.symbols import HELD_OUT_SEED, TEST_SEED, Classification, Labelled

Array = jax.Array

MODULUS = 5  # of cycle navigation and of arithmetic


def _valid(lengths: Array, longest: int) -> Array:
    return jnp.arange(longest)[None, :] < lengths[:, None]  # [N, T]


def parity(key: Array, lengths: Array, longest: int) -> Labelled:
    """Draw bits; the class is the number of ones modulo 2."""
    bits = jax.random.randint(key, (len(lengths), longest), 0, 2)
    return Labelled(bits, lengths, jnp.sum(bits * _valid(lengths, longest), axis=1) % 2)


def even_pairs(key: Array, lengths: Array, longest: int) -> Labelled:
    """Draw bits; the class is the number of neighbours that differ, modulo 2."""
    bits = jax.random.randint(key, (len(lengths), longest), 0, 2)
    differ = bits[:, 1:] != bits[:, :-1]
    return Labelled(bits, lengths, jnp.sum(differ & _valid(lengths, longest)[:, 1:], axis=1) % 2)


def cycle_navigation(key: Array, lengths: Array, longest: int) -> Labelled:
    """Draw moves back, stay and forward on a cycle of 5 places; the class is their last place, from place 0."""
    moves = jax.random.randint(key, (len(lengths), longest), 0, 3)
    return Labelled(moves, lengths, jnp.sum((moves - 1) * _valid(lengths, longest), axis=1) % MODULUS)


def modular_arithmetic(key: Array, lengths: Array, longest: int) -> Labelled:
    """Draw digits 0 to 4 with +, - and * between them; the class is the value modulo 5, * before + and -.

    Such a string has an odd length, so an even length gives a string that is shorter by one.
    """
    n, pairs = len(lengths), (longest - 1) // 2
    k_digits, k_operators = jax.random.split(key)
    digits = jax.random.randint(k_digits, (n, pairs + 1), 0, MODULUS)
    operators = jax.random.randint(k_operators, (n, pairs), 0, 3)
    used = jnp.arange(pairs)[None, :] < ((lengths - 1) // 2)[:, None]

    def read(carry: tuple[Array, Array], pair: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        total, term = carry  # the sum of all terms before this one, and this one with its sign
        operator, digit, used = pair
        product = (term * digit) % MODULUS
        signed = jnp.where(operator == 0, digit, -digit)
        new = jnp.where(operator == 2, total, total + term) % MODULUS, jnp.where(operator == 2, product, signed)
        return (jnp.where(used, new[0], total), jnp.where(used, new[1], term)), None

    first = jnp.zeros_like(digits[:, 0]), digits[:, 0]
    (total, term), _ = jax.lax.scan(read, first, (operators.T, digits[:, 1:].T, used.T))
    pairs_of_tokens = jnp.stack([operators + MODULUS, digits[:, 1:]], axis=-1).reshape(n, 2 * pairs)
    tokens = jnp.concatenate([digits[:, :1], pairs_of_tokens], axis=1)
    tokens = jnp.pad(tokens, ((0, 0), (0, longest - tokens.shape[1])))
    return Labelled(tokens, lengths - (lengths + 1) % 2, (total + term) % MODULUS)


class Language(NamedTuple):
    """A language. draw(key, lengths [N], longest) -> Labelled: one string of each length, padded to `longest`."""

    draw: Callable[[Array, Array, int], Labelled]
    symbols: tuple[str, ...]
    classes: int


LANGUAGES = {
    "parity": Language(parity, ("0", "1"), 2),
    "even_pairs": Language(even_pairs, ("0", "1"), 2),
    "cycle_navigation": Language(cycle_navigation, ("-1", "0", "+1"), MODULUS),
    "modular_arithmetic": Language(modular_arithmetic, ("0", "1", "2", "3", "4", "+", "-", "*"), MODULUS),
}


def ask(strings: Labelled, question: int) -> Labelled:
    """Return the strings `[N, T]` with the symbol `question` after each, `[N, T + 1]`."""
    tokens = jnp.pad(strings.tokens, ((0, 0), (0, 1)))
    ends = jnp.arange(tokens.shape[1])[None, :] == strings.lengths[:, None]
    return strings._replace(tokens=jnp.where(ends, question, tokens), lengths=strings.lengths + 1)


class FormalLanguageTask(Classification):
    """An `experiments.tasks.Task`. Held-out strings have the lengths of training, test strings are longer."""

    measure = "accuracy"

    def __init__(self, config: Config, task: FormalLanguage) -> None:
        if task.test_length <= task.length:
            raise UsageError(
                f"task.test_length: expected more than task.length = {task.length}, got {task.test_length}. "
                f"Type for example task.test_length={task.length + 460}."
            )
        self.task, self.language = task, LANGUAGES[task.name]
        super().__init__(config, (*self.language.symbols, "?"), self.language.classes, task.length + 1)
        self.facts: dict[str, Any] = {
            "trained_on_lengths": [1, task.length],
            "tested_on_lengths": [task.length + 1, task.test_length],
            "held_out_sequences": task.length * task.held_out,
            "test_sequences": (task.test_length - task.length) * task.test,
            "held_out_seed": HELD_OUT_SEED,
            "test_seed": TEST_SEED,
        }

    def draw(self, key: Array) -> Labelled:
        k_lengths, k_strings = jax.random.split(key)
        lengths = jax.random.randint(k_lengths, (self.batch_size,), 1, self.task.length + 1)
        return self._strings(k_strings, lengths, self.task.length)

    def _strings(self, key: Array, lengths: Array, longest: int) -> Labelled:
        return ask(self.language.draw(key, lengths, longest), len(self.language.symbols))

    def _grid(self, seed: int, first: int, last: int, each: int) -> Labelled:
        """Draw `each` strings of every length from `first` to `last`, in this order."""
        draw = jax.jit(self._strings, static_argnums=2)
        return draw(jax.random.key(seed), jnp.repeat(jnp.arange(first, last + 1), each), last)

    @cached_property
    def held_out(self) -> Labelled:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._grid(HELD_OUT_SEED, 1, self.task.length, self.task.held_out)

    @cached_property
    def test(self) -> Labelled:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._grid(TEST_SEED, self.task.length + 1, self.task.test_length, self.task.test)

    def findings(self, params: Any, key: Array) -> Findings:
        rights = jax.jit(self.rights)
        sets = (self.held_out, self.task.held_out), (self.test, self.task.test)
        values = [100 * np.asarray(rights(params, data)).reshape(-1, each).mean(axis=1) for data, each in sets]
        lengths = np.arange(1, self.task.test_length + 1)
        return Findings(
            {"accuracy at the worst test length [%]": float(values[1].min())},
            by_length=ByLength(lengths, np.concatenate(values), trained_to=self.task.length),
        )
