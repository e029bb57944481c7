"""Read a `Config` from a TOML file, the files that it `extends`, and overrides; report one line per mistake."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from experiments import sweep
from experiments.schema import WITHOUT_CLIP, WITHOUT_FORGET_GATE, WRAPPERS, Config, Model
from experiments.task_schema import TASKS

# pydantic's words -> words that can follow "expected".
PLAINER = (
    ("greater than or equal to", ">="),
    ("greater than", ">"),
    ("less than", "<"),
    ("a valid integer", "an integer"),
    ("a valid dictionary", "a table"),
    ("a valid ", "a "),
    ("'", '"'),
)
COMMAND_LINE = "command line"


class UsageError(Exception):
    """The command or the config is wrong. Each argument is one line that says what to type instead; exit code 2."""


class Request(NamedTuple):
    """A config, the stem of its file, and the keys that the command line set."""

    config: Config
    name: str
    overridden: tuple[str, ...]


def load(path: str, overrides: Sequence[str] = ()) -> Request:
    """Load the config in the file `path` with `table.key=value` overrides. Raises one UsageError for all mistakes."""
    tables, origins = _read(Path(path), ())
    keys = []
    for text in overrides:
        (table, *inner, key), value = _parse_override(text)
        if not isinstance(tables.setdefault(table, {}), dict):
            continue  # the file has `table = 3`: that is the error to show
        home = tables[table]
        for name in inner:
            home = home.setdefault(name, {})
        home[key] = value
        origins[table, inner[0] if inner else key] = COMMAND_LINE
        if table not in Config.model_fields:
            origins[table, ""] = COMMAND_LINE
        keys.append(".".join((table, *inner, key)))
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        raise UsageError(*_explain(error, tables, origins, path)) from None
    problems = _contradictions(config) or _check_sweep(config, path)
    if problems:
        raise UsageError(*(f"{path}: {problem}" for problem in problems))
    return Request(config, Path(path).stem, tuple(sorted(set(keys))))


def _contradictions(config: Config) -> list[str]:
    """Return one line for each conflict between keys."""
    found = []
    if config.task.name == "char_lm" and config.model.bidirectional:
        found.append(
            "model.bidirectional: expected false for char_lm, got true: a net that reads backwards sees the byte "
            "that it predicts. Type model.bidirectional=false."
        )
    if config.task.name not in ("char_lm", "csv") and config.data.path:
        found.append(
            f"data.path: expected nothing for {config.task.name}, which has its own data, "
            f"got {_show(config.data.path)}. Leave it out."
        )
    model, plain = config.model, Model()
    if bool(model.projected_size) != (model.cell == "ProjectedLSTM"):
        expected, hint = ("0", "Leave it out.") if model.projected_size else ("> 0", "Type model.projected_size=32.")
        found.append(f"model.projected_size: expected {expected} for {model.cell}, got {model.projected_size}. {hint}")
    if model.cell in WITHOUT_CLIP and model.cell_clip:
        found.append(f"model.cell_clip: expected 0 for {model.cell}, got {_show(model.cell_clip)}. Leave it out.")
    if model.cell in WITHOUT_FORGET_GATE and model.forget_bias != plain.forget_bias:
        found.append(
            f"model.forget_bias: expected nothing for {model.cell}, which has no forget gate, "
            f"got {_show(model.forget_bias)}. Type model.forget_bias={_show(plain.forget_bias)}."
        )
    if model.wrappers and not found:
        from experiments.model import build_cell  # here, since it imports jax, which takes a second

        try:
            build_cell(model, memory=2)
        except ValueError as error:
            found.append(f"model.wrappers: {error}")
    return found


def _check_sweep(config: Config, path: str) -> list[str]:
    """Return one line for each mistake in the lists of [sweep]. Every value must be valid for the key itself."""
    found = []
    for name, values in sweep.swept(config).items():
        if name == "train.seed":
            found.append("sweep.train.seed: unknown key. Type sweep.seeds=16, and train.seed=0 for the first.")
            continue
        if not values or len({_show(value) for value in values}) < len(values):
            found.append(f"sweep.{name}: expected different values in a list, got {_show(values)}.")
        for value in values:
            try:
                found += _contradictions(sweep.replaced(config, {name: value}))
            except ValidationError as error:
                tables = config.model_dump()
                table, key = name.split(".")
                tables[table][key] = value
                found += _explain(error, tables, {}, "[sweep]")
    return found


def _read(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """Return the tables of a file over those it extends, and the file that each (table, key) came from."""
    chain = (*above, path)
    if path.resolve() in [p.resolve() for p in above]:
        circle = " -> ".join(str(p) for p in chain)
        raise UsageError(f"{above[0]}: `extends` goes in a circle, {circle}. Remove one of these `extends` lines.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        came = f", which {above[-1]} extends" if above else ""
        raise UsageError(
            f"{path}: expected a config file{came}: {reason}. Type python -m experiments.run --list to see the configs."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}. Write for example steps = 3000 under [train].") from None
    parent = tables.pop("extends", None)
    origins = {(t, k): str(path) for t, keys in tables.items() for k in (keys if isinstance(keys, dict) else ("",))}
    if parent is None:
        return tables, origins
    if not isinstance(parent, str):
        raise UsageError(
            f'{path}: extends: expected the name of a file, got {_show(parent)}. Write extends = "x.toml".'
        )
    base, base_origins = _read(path.parent / parent, chain)
    for name, keys in tables.items():
        both = isinstance(keys, dict) and isinstance(base.get(name), dict)
        base[name] = {**base[name], **keys} if both else keys
    return base, {**base_origins, **origins}


def _parse_override(text: str) -> tuple[list[str], Any]:
    """Parse `table.key=value` or `sweep.table.key=[...]`. The value is TOML; text that is not TOML is a string."""
    left, equals, right = text.partition("=")
    names = left.strip().split(".")
    if not (equals and all(names)) or len(names) not in ((2, 3) if names[0] == "sweep" else (2,)):
        homes = [f"{t}.{left}={right or 'value'}" for t in Config.model_fields if left in _fields(t, {})]
        hint = f"Did you mean {homes[0]}?" if homes else "Type for example train.steps=3000."
        raise UsageError(f"{COMMAND_LINE}: expected table.key=value, got {text!r}. {hint}")
    try:
        parsed = tomllib.loads(f"value = {right}")
    except tomllib.TOMLDecodeError:
        return names, right
    return names, parsed["value"] if len(parsed) == 1 else right


def _explain(
    error: ValidationError, tables: dict[str, Any], origins: dict[tuple[str, str], str], path: str
) -> list[str]:
    """Return one line for every key that pydantic rejects. The errors of a union, one per member, become one line."""
    wanted: dict[tuple[str, ...], list[str]] = {}
    lines: list[str] = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        if place[:1] == ["task"] and place[1:2] and place[1] in TASKS:
            del place[1]  # the tag of the union, not a key of the file
        if place[0] == "sweep" and place[2:]:  # sweep.train.learning_rate
            value = tables["sweep"][place[1]][place[2]]
            name = ".".join(place[:3])
            lines.append(
                f"{origins.get(('sweep', place[1]), path)}: {name}: expected a list, got {_show(value)}. "
                f"Type {name}=[{_show(value)}]."
            )
            continue
        location = tuple(place[:2])
        where = origins.get((place[0], place[1]) if place[1:] else (place[0], ""), path)
        name = ".".join(location)
        if location == ("model", "wrappers") and place[2:]:
            lines.append(f"{where}: {_explain_wrapper(item, tables['model']['wrappers'])}")
            continue
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: {name}: unknown {'key' if location[1:] else 'table'}. {_suggest(location, tables)}")
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found", "missing"):
            came = tables.get("task", {}).get("name")
            hint = difflib.get_close_matches(str(came), TASKS, n=1) or ["adding"]
            where = origins.get(("task", "name"), path)
            got = "nothing" if came is None else _show(came)
            lines.append(f"{where}: task.name: expected {_any_of(TASKS)}, got {got}. Type task.name={hint[0]}.")
        else:
            message = _plain(item["msg"])
            if item["type"] in ("model_type", "model_attributes_type"):
                message = f"a table [{name}]"
            wanted.setdefault((where, *location), []).append(message)
            if len(wanted[where, *location]) == 1:
                lines.append("\0".join((where, *location)))  # a placeholder, replaced when all members are known
    return [_write_wanted(line.split("\0"), wanted, tables) if "\0" in line else line for line in lines]


def _explain_wrapper(item: Any, wrappers: list[Any]) -> str:
    """Return the line for a mistake in model.wrappers. item's loc: ("model", "wrappers", number, name, key)."""
    number, (key, *_) = item["loc"][2], (*item["loc"][4:], "name")
    came, at = wrappers[number], f"model.wrappers[{number}]"
    if not isinstance(came, dict):
        return f"{at}: expected a table, got {_show(came)}. Type for example {_show(WRAPPERS['Zoneout'])}."
    got = _show(came[key]) if key in came else "nothing"
    if key == "name":
        near = difflib.get_close_matches(str(came.get("name")), WRAPPERS, n=1) or ["Zoneout"]
        return f"{at}.name: expected {_any_of(WRAPPERS)}, got {got}. Type for example {_show(WRAPPERS[near[0]])}."
    example = WRAPPERS[came["name"]]
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, example, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"{came['name']} has {', '.join(list(example)[1:])}."
        return f"{at}.{key}: unknown key. {hint}"
    expected = "a value" if item["type"] == "missing" else _plain(item["msg"])
    return f"{at}.{key}: expected {expected}, got {got}. Type for example {_show(example)}."


def _plain(message: str) -> str:
    """Return pydantic's message as words that can follow "expected"."""
    message = message.removeprefix("Input should be ")
    for theirs, ours in PLAINER:
        message = message.replace(theirs, ours)
    return message


def _write_wanted(entry: list[str], wanted: dict[tuple[str, ...], list[str]], tables: dict[str, Any]) -> str:
    where, *location = entry
    name, expected = ".".join(location), " or ".join(wanted[tuple(entry)])
    if len(location) == 1:
        return f"{where}: {name}: expected {expected}, got {_show(tables[name])}. Write [{name}] on a line of its own."
    came = tables[location[0]][location[1]]
    default = _fields(location[0], tables)[location[1]].default
    default = [WRAPPERS["Zoneout"]] if name == "model.wrappers" else default
    return f"{where}: {name}: expected {expected}, got {_show(came)}. Type for example {name}={_show(default)}."


def _suggest(location: tuple[str, ...], tables: dict[str, Any]) -> str:
    """Return a hint: a similar name in this table, else the same name in another table, else all names."""
    if len(location) == 1:
        homes = {key: f"{key} under [{t}]" for t in Config.model_fields if t != "sweep" for key in _fields(t, tables)}
        near = difflib.get_close_matches(location[0], [*homes, *Config.model_fields], n=1)
        if near:
            return f"Did you mean {homes.get(near[0], f'[{near[0]}]')}?"
        return f"The tables are {', '.join(Config.model_fields)}."
    table, key = location
    fields = _fields(table, tables)
    near = difflib.get_close_matches(key, fields, n=1)
    if near:
        return f"Did you mean {table}.{near[0]}?"
    homes = [t for t in Config.model_fields if t != table and key in _fields(t, tables)]
    return f"Did you mean {homes[0]}.{key}?" if homes else f"[{table}] has {', '.join(fields)}."


def _fields(table: str, tables: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a table; for [task], those of the named task, or of all tasks if none is named."""
    if table != "task":
        return Config.model_fields[table].annotation.model_fields  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    task = tables.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    chosen = [TASKS[name]] if isinstance(name, str) and name in TASKS else TASKS.values()
    return {key: field for model in chosen for key, field in model.model_fields.items()}


def _any_of(names: Iterable[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def _show(value: Any) -> str:
    """Return a value as you type it in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_show(of)}" for key, of in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)
