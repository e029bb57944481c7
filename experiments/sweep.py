"""[sweep] -> the programs to run, one after the other; values that are only numbers in a program are its members."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.schema import Config

# Numbers that a compiled program takes as arguments. Everything else is part of the program.
TRACED = ("train.learning_rate", "train.clip", "train.weight_decay")
SWEPT_TABLES = ("task", "model", "train", "data")


class Setting(NamedTuple):
    """One program: `config` has the values of its static keys and sweeps the traced ones alone.

    static: the swept keys that are constant here, by name. A member has the seed and the values of the traced keys.
    """

    config: Config
    static: dict[str, Any]
    members: tuple[dict[str, Any], ...]


def swept(config: Config) -> dict[str, list[Any]]:
    """The listed values by name: {"train.learning_rate": [1e-3, 3e-3]}, in the order of the tables."""
    tables = {table: getattr(config.sweep, table) for table in SWEPT_TABLES}
    return {f"{table}.{key}": values for table, keys in tables.items() for key, values in keys.items()}


def is_single(config: Config) -> bool:
    """Whether the config is one run and no sweep."""
    return config.sweep.seeds == 1 and not swept(config)


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with other values, validated anew: pydantic.ValidationError where one is wrong."""
    tables = config.model_dump()
    for name, value in values.items():
        table, key = name.split(".")
        tables[table][key] = value
    return Config.model_validate(tables)


def settings(config: Config) -> list[Setting]:
    """Every program of a sweep, in the order of the lists; of a single run the one, with one member."""
    lists = swept(config)
    static = {name: values for name, values in lists.items() if name not in TRACED}
    base = _without(config, static)
    traced = {name: values for name, values in lists.items() if name in TRACED}
    seeds = range(config.train.seed, config.train.seed + config.sweep.seeds)
    members = tuple(
        {**point, "train.seed": seed} for point in _product(traced) for seed in seeds
    )  # the seeds of one point beside each other
    return [Setting(replaced(base, point), point, members) for point in _product(static)]


def _without(config: Config, names: Iterable[str]) -> Config:
    """The config that does not sweep these keys."""
    tables = config.model_dump()
    for name in names:
        table, key = name.split(".")
        del tables["sweep"][table][key]
    return Config.model_validate(tables)


def _product(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
