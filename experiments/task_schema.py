"""The [task] table of every task: one record each, and `TASKS` by name."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class Table(BaseModel):
    """A table of the file. Unknown keys, silent conversions and later changes are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Adding(Table):
    """The adding problem. `length` is T; `held_out` is the number of test sequences."""

    name: Literal["adding"]
    length: Annotated[int, Field(ge=2)] = 200
    held_out: PositiveInt = 2048


class CharLM(Table):
    """A language model of bytes. `length` is T of a batch; `sample_length` is the number of bytes of the sample."""

    name: Literal["char_lm"]
    length: PositiveInt = 100
    embed_size: PositiveInt = 64
    sample_length: PositiveInt = 600
    temperature: PositiveFloat = 0.7


class CopyMemory(Table):
    """Copy memory. `length` is T, the steps between; `held_out` and `test` are numbers of sequences."""

    name: Literal["copy_memory"]
    length: Annotated[int, Field(ge=1)] = 100
    held_out: PositiveInt = 512
    test: PositiveInt = 2048


class TemporalOrder(Table):
    """Temporal order with 2 (experiment 6a) or 3 (6b) `relevant` symbols. `held_out`, `test`: numbers of sequences."""

    name: Literal["temporal_order"]
    relevant: Literal[2, 3] = 2
    held_out: PositiveInt = 2560
    test: PositiveInt = 2560


class Reber(Table):
    """The embedded Reber grammar. Strings have at most `longest` symbols; the other keys are numbers of strings."""

    name: Literal["reber"]
    longest: Annotated[int, Field(ge=9)] = 40
    training: PositiveInt = 256
    held_out: PositiveInt = 256
    test: PositiveInt = 256


class FormalLanguage(Table):
    """Training on lengths 1 to `length`, tests up to `test_length`. `held_out`, `test`: strings per length."""

    name: Literal["parity", "even_pairs", "cycle_navigation", "modular_arithmetic"]
    length: PositiveInt = 40
    test_length: PositiveInt = 500
    held_out: PositiveInt = 32
    test: PositiveInt = 16


class Digits(Table):
    """8x8 digits, row by row or pixel by pixel. Fold `fold` of five is the test set."""

    name: Literal["digits"]
    order: Literal["rows", "pixels"] = "rows"
    fold: Annotated[int, Field(ge=0, le=4)] = 0


class Sunspots(Table):
    """Next year's sunspots from `length` years. The last `held_out` years of 1700-1920 are held-out data.

    With `difference` the net predicts the change since this year. `noise`, in standard deviations, is added to training
    inputs. With `root` the net reads and predicts square roots; `difference` and `noise` then apply to these.
    """

    name: Literal["sunspots"]
    length: Annotated[int, Field(ge=1, le=100)] = 12
    held_out: Annotated[int, Field(ge=1, le=100)] = 35
    difference: bool = True
    noise: NonNegativeFloat = 0.0
    root: bool = False


class CSV(Table):
    """A forecast of `target`, `horizon` rows ahead, from the last `length` rows of `inputs`; [] is the target alone.

    `test` is the share of rows at the end, `held_out` the share before them. `difference`, `noise`: see Sunspots.
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


# To add a task, add its record here, to `Task` and `TASKS`, its class to `experiments.tasks`, a config to configs/.
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
