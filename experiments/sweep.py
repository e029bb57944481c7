"""Split [sweep] into programs, run one after the other. Values that a program takes as arguments give its members."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.schema import Config

# Numbers that a compiled program takes as arguments. Everything else is part of the program.
TRACED = ("train.learning_rate", "train.clip", "train.weight_decay")
SWEPT_TABLES = ("task", "model", "train", "data")


class Setting(NamedTuple):
    """One program. `config` has the values of its static keys and sweeps only the traced ones.

    static: the swept keys that are constant here, by name. A member has the seed and the values of the traced keys.
    """

    config: Config
    static: dict[str, Any]
    members: tuple[dict[str, Any], ...]


def swept(config: Config) -> dict[str, list[Any]]:
    """Return the listed values by name: {"train.learning_rate": [1e-3, 3e-3]}, in the order of the tables."""
    tables = {table: getattr(config.sweep, table) for table in SWEPT_TABLES}
    return {f"{table}.{key}": values for table, keys in tables.items() for key, values in keys.items()}


def is_single(config: Config) -> bool:
    """Return True if the config is one run, not a sweep."""
    return config.sweep.seeds == 1 and not swept(config)


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the config with other values, validated again. Raises pydantic.ValidationError if one is wrong."""
    tables = config.model_dump()
    for name, value in values.items():
        table, key = name.split(".")
        tables[table][key] = value
    return Config.model_validate(tables)


def settings(config: Config) -> list[Setting]:
    """Return every program of a sweep, in the order of the lists. A single run is one program with one member."""
    lists = swept(config)
    static = {name: values for name, values in lists.items() if name not in TRACED}
    base = _without(config, static)
    traced = {name: values for name, values in lists.items() if name in TRACED}
    seeds = range(config.train.seed, config.train.seed + config.sweep.seeds)
    members = tuple(
        {**point, "train.seed": seed} for point in _product(traced) for seed in seeds
    )  # the seeds of one point are adjacent
    return [Setting(replaced(base, point), point, members) for point in _product(static)]


def _without(config: Config, names: Iterable[str]) -> Config:
    """Return the config without these swept keys."""
    tables = config.model_dump()
    for name in names:
        table, key = name.split(".")
        del tables["sweep"][table][key]
    return Config.model_validate(tables)


def _product(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
