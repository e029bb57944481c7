"""The config of a run: every table and key. `experiments.config` reads it from files and the command line."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeAlias

import tomli_w
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from experiments.task_schema import Table, Task

Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class Zoneout(Table):
    """Units that keep their old value, drawn at every step: `h_rate` for h, `c_rate` for the memory (c of an LSTM)."""

    name: Literal["Zoneout"]
    h_rate: Rate = 0.0
    c_rate: Rate = 0.0


class DropConnect(Table):
    """Recurrent weights that are 0, drawn for every sequence."""

    name: Literal["DropConnect"]
    rate: Rate


class VariationalDropout(Table):
    """Features of x and units of h that are 0, drawn for every sequence."""

    name: Literal["VariationalDropout"]
    input_rate: Rate = 0.0
    recurrent_rate: Rate = 0.0


class ClipGates(Table):
    """The inputs of the gates, clipped to ±`limit`."""

    name: Literal["ClipGates"]
    limit: PositiveFloat


Wrapper: TypeAlias = Zoneout | DropConnect | VariationalDropout | ClipGates
# Every wrapper by name with all its keys, as an example in errors.
WRAPPERS: dict[str, dict[str, Any]] = {
    "Zoneout": {"name": "Zoneout", "h_rate": 0.05, "c_rate": 0.2},
    "DropConnect": {"name": "DropConnect", "rate": 0.5},
    "VariationalDropout": {"name": "VariationalDropout", "input_rate": 0.2, "recurrent_rate": 0.2},
    "ClipGates": {"name": "ClipGates", "limit": 3.0},
}


class Model(Table):
    """The net between input and `Dense`. `forget_bias = "chrono"` is chrono initialisation for memories of T.

    projected_size is P of a ProjectedLSTM, which requires it; it is 0 for every other cell. cell_clip clips c of an
    LSTM to ±cell_clip; 0 clips nothing. The wrappers go around every cell, the first one innermost:
    `[{name = "DropConnect", rate = 0.5}, {name = "Zoneout", h_rate = 0.05, c_rate = 0.2}]`.
    """

    cell: Literal[
        "LSTM", "PeepholeLSTM", "CoupledLSTM", "ProjectedLSTM", "LayerNormLSTM", "GRU", "SLSTM", "MinLSTM",
        "OriginalLSTM",
    ] = "LSTM"  # fmt: skip
    hidden_size: PositiveInt = 64
    projected_size: NonNegativeInt = 0
    cell_clip: NonNegativeFloat = 0.0
    layers: PositiveInt = 1
    bidirectional: bool = False
    dropout: Rate = 0.0
    forget_bias: float | Literal["chrono"] = 1.0
    wrappers: list[Annotated[Wrapper, Field(discriminator="name")]] = Field(default=[])

    @property
    def noisy(self) -> bool:
        """True if the net draws random numbers in training."""
        return self.dropout > 0 or any(wrapper.name != "ClipGates" for wrapper in self.wrappers)


class Train(Table):
    """Adam(W) with a clipped global norm. `steps_per_call` steps run in one device call; `minutes` 0 is no limit."""

    steps: PositiveInt = 3000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: NonNegativeFloat = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    clip: PositiveFloat = 1.0
    steps_per_call: PositiveInt = 50
    eval_every: PositiveInt = 250
    minutes: NonNegativeFloat = 0.0


class Sweep(Table):
    """Many runs: `seeds` seeds from train.seed on, times every combination of the listed values.

    Lists are under their own table: `train.learning_rate = [1e-3, 3e-3]`. `parallel` members run at once in the
    device call, the others one after the other; 0 chooses by the device.
    """

    seeds: PositiveInt = 1
    parallel: NonNegativeInt = 0
    task: dict[str, list[Any]] = Field(default={})
    model: dict[str, list[Any]] = Field(default={})
    train: dict[str, list[Any]] = Field(default={})
    data: dict[str, list[Any]] = Field(default={})


class Checkpoint(Table):
    """A checkpoint after each `every` steps. The newest `keep` stay, and the best one by the held-out measure."""

    every: PositiveInt = 250
    keep: PositiveInt = 2


class Log(Table):
    """A line of metrics after each `every` steps; 0 is after every call.

    A tracker also receives the lines: "" is none, "wandb", or "package.module:Class" as in experiments/tracker.py.
    """

    every: NonNegativeInt = 0
    tracker: str = ""


class Run(Table):
    """The directory of the run; "" is runs/<config>/<overrides>-s<seed>.

    compilation_cache is the directory of compiled programs for the next process: "" is the user's cache, "off" is none.
    """

    dir: str = ""
    compilation_cache: str = ""


class Data(Table):
    """The file of csv, or the text of char_lm; there "" is the source code of Python's standard library."""

    path: str = ""


class Config(Table):
    """The whole config of one run, or of many with [sweep]."""

    task: Annotated[Task, Field(discriminator="name")]
    model: Model = Model()
    train: Train = Train()
    sweep: Sweep = Sweep()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    run: Run = Run()
    data: Data = Data()

    def toml(self) -> str:
        """Return the resolved config as TOML."""
        return tomli_w.dumps(self.model_dump())

    def sha256(self) -> str:
        """Return the hash of all values that affect the numbers."""
        tables = self.model_dump(exclude=set(NO_NUMBERS))
        for late in ("wrappers", "cell_clip"):  # these keys are newer; a run from before them can be resumed
            if not tables["model"][late]:
                del tables["model"][late]
        return hashlib.sha256(tomli_w.dumps(tables).encode()).hexdigest()


# The tables that set where and how often files are written, and affect no number.
NO_NUMBERS = ("run", "checkpoint", "log")
# The defaults of [model]. A run from before a key existed has its default.
PLAIN_MODEL = Model().model_dump()
# The cells without model.cell_clip, and those without model.forget_bias.
WITHOUT_CLIP = ("GRU", "SLSTM", "MinLSTM")
WITHOUT_FORGET_GATE = ("GRU", "OriginalLSTM")
