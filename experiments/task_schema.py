"""The [task] table of every task: one record each, and `TASKS` by name."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class Table(BaseModel):
    """A table of the file: no unknown key, no silent conversion, no later change."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Adding(Table):
    """The adding problem; `length` is T, `held_out` counts test sequences."""

    name: Literal["adding"]
    length: Annotated[int, Field(ge=2)] = 200
    held_out: PositiveInt = 2048


class CharLM(Table):
    """A language model of bytes; `length` is T of one batch, `sample_length` the bytes that it writes in the end."""

    name: Literal["char_lm"]
    length: PositiveInt = 100
    embed_size: PositiveInt = 64
    sample_length: PositiveInt = 600
    temperature: PositiveFloat = 0.7


class CopyMemory(Table):
    """Copy memory; `length` is T, the steps between; `held_out` and `test` count sequences."""

    name: Literal["copy_memory"]
    length: Annotated[int, Field(ge=1)] = 100
    held_out: PositiveInt = 512
    test: PositiveInt = 2048


class TemporalOrder(Table):
    """Temporal order with 2 (experiment 6a) or 3 (6b) relevant symbols; `held_out` and `test` count sequences."""

    name: Literal["temporal_order"]
    relevant: Literal[2, 3] = 2
    held_out: PositiveInt = 2560
    test: PositiveInt = 2560


class Reber(Table):
    """The embedded Reber grammar; strings have `longest` symbols at most; the others count strings."""

    name: Literal["reber"]
    longest: Annotated[int, Field(ge=9)] = 40
    training: PositiveInt = 256
    held_out: PositiveInt = 256
    test: PositiveInt = 256


class FormalLanguage(Table):
    """Trained on lengths 1 to `length`, tested up to `test_length`; `held_out` and `test` count strings of a length."""

    name: Literal["parity", "even_pairs", "cycle_navigation", "modular_arithmetic"]
    length: PositiveInt = 40
    test_length: PositiveInt = 500
    held_out: PositiveInt = 32
    test: PositiveInt = 16


class Digits(Table):
    """8x8 digits, row after row or pixel after pixel; fold `fold` of five is the test."""

    name: Literal["digits"]
    order: Literal["rows", "pixels"] = "rows"
    fold: Annotated[int, Field(ge=0, le=4)] = 0


class Sunspots(Table):
    """Next year's sunspots from `length` years; `held_out` counts the last years of 1700-1920, kept to choose by.

    With `difference` the net answers the change since this year. `noise` on training inputs, in standard deviations.
    With `root` the net reads and answers square roots, in which all these are then.
    """

    name: Literal["sunspots"]
    length: Annotated[int, Field(ge=1, le=100)] = 12
    held_out: Annotated[int, Field(ge=1, le=100)] = 35
    difference: bool = True
    noise: NonNegativeFloat = 0.0
    root: bool = False


class CSV(Table):
    """`target`, `horizon` rows ahead, from the last `length` rows of the columns `inputs`; [] is the target alone.

    The end of the file is the test, before it is `held_out`: shares of the rows. `difference`, `noise`: see Sunspots.
    """

    name: Literal["csv"]
    inputs: list[str] = []
    target: str = ""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    length: PositiveInt = 24
    horizon: PositiveInt = 1
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    difference: bool = True
    noise: NonNegativeFloat = 0.0


# Add a task: its record here, and in `Task`; its class in `experiments.tasks`; a config in configs/.
Task: TypeAlias = Adding | CharLM | CopyMemory | TemporalOrder | Reber | FormalLanguage | Digits | Sunspots | CSV
TASKS: dict[str, type[Table]] = {
    "adding": Adding,
    "char_lm": CharLM,
    "copy_memory": CopyMemory,
    "temporal_order": TemporalOrder,
    "reber": Reber,
    "parity": FormalLanguage,
    "even_pairs": FormalLanguage,
    "cycle_navigation": FormalLanguage,
    "modular_arithmetic": FormalLanguage,
    "digits": Digits,
    "sunspots": Sunspots,
    "csv": CSV,
}
