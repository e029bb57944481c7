"""What a run is: the record of every table and key. `experiments.config` reads it from files and the command line."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt


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


class Model(Table):
    """The net between input and `Dense`. `forget_bias = "chrono"` is chrono initialisation for memories of T."""

    cell: Literal["LSTM"] = "LSTM"
    hidden_size: PositiveInt = 64
    layers: PositiveInt = 1
    bidirectional: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    forget_bias: float | Literal["chrono"] = 1.0


class Train(Table):
    """Adam under a clipped global norm; `steps_per_call` steps run in one device call, `eval_every` saves as well."""

    steps: PositiveInt = 3000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    schedule: Literal["constant", "cosine"] = "constant"
    seed: NonNegativeInt = 0
    clip: PositiveFloat = 1.0
    steps_per_call: PositiveInt = 50
    eval_every: PositiveInt = 250


class Run(Table):
    """Where the run is kept; "" is runs/<config>/<overrides>-s<seed>."""

    dir: str = ""


class Data(Table):
    """The text of char_lm; "" is the Python standard library's own source."""

    path: str = ""


TASKS: dict[str, type[Table]] = {"adding": Adding, "char_lm": CharLM}


class Config(Table):
    """One run, whole."""

    task: Annotated[Adding | CharLM, Field(discriminator="name")]
    model: Model = Model()
    train: Train = Train()
    run: Run = Run()
    data: Data = Data()

    def toml(self) -> str:
        """The resolved file."""
        return tomli_w.dumps(self.model_dump())

    def sha256(self) -> str:
        """The hash of all that decides the numbers: everything but [run]."""
        return hashlib.sha256(tomli_w.dumps(self.model_dump(exclude={"run"})).encode()).hexdigest()
