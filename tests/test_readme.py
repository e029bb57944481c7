"""The README's code runs: every python block, strictly, and every shell line names what exists."""

import contextlib
import functools
import importlib.util
import re
import shlex
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import frameworks
import jax
import pytest

import jlstm
from experiments import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block. title: the heading that it stands under.   line: of its first line of code."""

    title: str
    language: str
    line: int
    code: str


def blocks(text: str) -> Iterator[Block]:
    """All fenced blocks of a Markdown text."""
    title = ""
    for match in re.finditer(r"^#+ (.+)$|^```(\w*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        title = match[1] or title
        if match[1] is None:
            yield Block(title, match[2], text.count("\n", 0, match.start(3)) + 1, match[3])


BLOCKS = [*blocks(README)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [line for block in BLOCKS if block.language == "sh" for line in block.code.splitlines()]
PEERS = ("flax", "keras", "onnxruntime", "optax", "torch")
SLOW = ("From Python",)  # trains


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Blocks may change the rank promotion. Their nets are small: they compile longer than they run."""
    promotion, fast = jax.config.jax_numpy_rank_promotion, jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_numpy_rank_promotion", promotion)
    jax.config.update("jax_disable_most_optimizations", fast)


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=b.title, marks=pytest.mark.slow if b.title in SLOW else ()) for b in PYTHON]
)
def test_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block runs behind the first block's imports."""
    frameworks.need(*(peer for peer in PEERS if re.search(rf"^\s*(import|from) {peer}\b", block.code, re.MULTILINE)))
    monkeypatch.chdir(tmp_path)  # where blocks write their files
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    module, first = types.ModuleType("readme"), PYTHON[0].code.splitlines(keepends=True)
    exec("".join(line for line in first if line.startswith("import ")), vars(module))
    # Empty lines in front, so that a traceback names the README's line.
    code = compile("\n" * (block.line - 1) + block.code, str(ROOT / "README.md"), "exec")
    with frameworks.settings() if "import keras" in block.code else contextlib.nullcontext():
        exec(code, vars(module))


def test_every_language_is_run_or_known() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "sh", "toml"}
    assert len(PYTHON) > 10 and len(re.findall("^```", README, re.MULTILINE)) == 2 * len(BLOCKS)


def test_the_two_commands() -> None:
    begin = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    ends = '".[experiments]" && python -m experiments.run configs/adding.toml', '".[test]" && pytest'
    assert SHELL[:2] == [begin + end for end in ends]


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
    lines = [line for line in SHELL if line.startswith("python -m experiments.run")]
    assert lines
    for _, _, _, path, *rest in map(shlex.split, lines):
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
