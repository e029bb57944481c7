"""The README's code runs: every python block, strictly, and every shell line names what exists."""

import functools
import importlib.util
import re
import shlex
import tomllib
import types
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest

import jlstm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block. title: the heading that it stands under.   line: of its first line of code."""

    title: str
    language: str
    line: int
    code: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a Markdown text."""
    found: list[Block] = []
    title = language = ""
    inside: list[str] | None = None
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            if inside is None:
                inside, language, start = [], line[3:].strip(), number + 1
            else:
                found.append(Block(title, language, start, "".join(inside)))
                inside = None
        elif inside is not None:
            inside.append(line + "\n")
        elif line.startswith("#"):
            title = line.lstrip("# ")
    assert inside is None, f"a block of {title} has no end"
    return found


PYTHON = [block for block in blocks(README) if block.language == "python"]
SHELL = [block for block in blocks(README) if block.language == "sh"]
PEERS = ("flax", "keras", "onnxruntime", "optax", "torch")


@functools.cache
def program(title: str) -> dict[str, Any]:
    """The names that the README's block under `title` leaves, after it ran behind the first block's imports."""
    (block,) = [block for block in PYTHON if block.title == title]
    for peer in PEERS:
        if re.search(rf"^\s*(import|from) {peer}\b", block.code, re.MULTILINE):
            pytest.importorskip(peer, exc_type=ImportError)
    keras = "import keras" in block.code
    if keras:
        jax.config.update(
            "jax_numpy_rank_promotion", "allow"
        )  # Keras itself promotes ranks and calls what is deprecated
    module = types.ModuleType("readme")
    imports = "".join(line for line in PYTHON[0].code.splitlines(keepends=True) if line.startswith("import "))
    # Empty lines in front, so that a traceback names the README's line.
    code = compile("\n" * (block.line - 1) + block.code, str(ROOT / "README.md"), "exec")
    exec(imports, vars(module))
    with warnings.catch_warnings():
        if keras:
            warnings.simplefilter("ignore", DeprecationWarning)
        exec(code, vars(module))
    return vars(module)


@pytest.fixture(autouse=True)
def settings():
    """Blocks may change the rank promotion. Their nets are small: they compile longer than they run."""
    promotion, fast = jax.config.jax_numpy_rank_promotion, jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_numpy_rank_promotion", promotion)
    jax.config.update("jax_disable_most_optimizations", fast)


SLOW = ("From Python",)  # trains


@pytest.mark.parametrize(
    "title",
    [pytest.param(b.title, marks=pytest.mark.slow if b.title in SLOW else ()) for b in PYTHON],
)
def test_python_block_runs(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where blocks write their files
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    program(title)


def test_every_language_is_run_or_known() -> None:
    assert {block.language for block in blocks(README)} <= {"python", "sh", "toml"}
    assert len(PYTHON) > 10


def test_the_two_commands() -> None:
    begin = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    first = [line for block in SHELL for line in block.code.splitlines()][:2]
    assert first == [
        begin + '".[experiments]" && python -m experiments.run configs/adding.toml',
        begin + '".[test]" && pytest',
    ]


def test_named_files_extras_and_modules_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra for group in re.findall(r"\[([a-z0-9,]+)\]\"", README) for extra in group.split(",")}
    assert extras and extras <= set(project["optional-dependencies"])
    paths = set(re.findall(r"\b(?:configs|tests|jlstm|experiments)/[\w/.]*\.(?:toml|py)\b", README))
    assert paths and all((ROOT / path).exists() for path in paths), paths
    modules = set(re.findall(r"python -m ([\w.]+)", README)) - {"venv"}
    assert modules and all(importlib.util.find_spec(name) for name in modules), modules
    links = set(re.findall(r"\]\(([^)#:]+)\)", README))
    assert all((ROOT / link).exists() for link in links), links


def test_named_overrides_are_config_keys() -> None:
    config = pytest.importorskip("experiments.config", exc_type=ImportError)
    lines = [
        shlex.split(line)
        for block in SHELL
        for line in block.code.splitlines()
        if line.startswith("python -m experiments.run")
    ]
    assert lines
    for _, _, _, path, *rest in lines:
        config.load(str(ROOT / path), [word for word in rest if "=" in word and "$" not in word])


def test_no_number_is_missing() -> None:
    assert "<!--" not in README


def test_the_table_of_cells_counts_parameters() -> None:
    sizes = {"D": 3, "H": 8, "P": 2, "N": 2, "S": 4}
    options = {"ProjectedLSTM": {"projected_size": 2}, "SLSTM": {"heads": 2}, "OriginalLSTM": {"block_size": 4}}
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*\(D \+[^|]*) \|$", README, re.MULTILINE)
    assert len(rows) == 9
    for name, formula in rows:
        first, _, other = formula.partition("; without `reset_after` ")
        for text, more in ((first, {}), *(((other, {"reset_after": False}),) if other else ())):
            product = re.sub(r"(?<=[0-9A-Z)])(?=[A-Z(])", "*", text)
            cell = getattr(jlstm, name)(8, **options.get(name, {}), **more)
            params = jax.eval_shape(functools.partial(cell.init, input_size=3), jax.random.key(0))
            assert eval(product, sizes) == sum(leaf.size for leaf in jax.tree.leaves(params)), (name, product)
