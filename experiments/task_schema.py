"""The [task] table of every task: one record each, and `TASKS` by name."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


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


# Add a task: its record here, and in `Task`; its class in `experiments.tasks`; a config in configs/.
Task: TypeAlias = Adding | CharLM
TASKS: dict[str, type[Table]] = {"adding": Adding, "char_lm": CharLM}
