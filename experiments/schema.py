"""What a run is: the record of every table and key. `experiments.config` reads it from files and the command line."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import tomli_w
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from experiments.task_schema import Table, Task


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
    """The file of csv, or the text of char_lm, where "" is the source code of Python's standard library."""

    path: str = ""


class Config(Table):
    """One run, whole."""

    task: Annotated[Task, Field(discriminator="name")]
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
