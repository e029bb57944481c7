"""The README files: every Python block runs, and every shell line, link and anchor names something that exists."""

import contextlib
import functools
import importlib.util
import re
import shlex
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import frameworks
import jax
import jax.numpy as jnp
import pytest
from small import equal

import jlstm
from experiments import config

ROOT = Path(__file__).parent.parent
MANUALS = [
    ROOT / folder / "README.md"
    for folder in ("", "jlstm", "jlstm/convert", "experiments", "experiments/benchmark", "configs/data")
]
PAGES = [*MANUALS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
MANUAL = "\n".join(TEXTS[page] for page in MANUALS)


class Block(NamedTuple):
    """A fenced block. page: its file.   title: the heading that it stands under.   line: of its first line of code."""

    page: Path
    title: str
    language: str
    line: int
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page."""
    title, text = "", TEXTS[page]
    for match in re.finditer(r"^#+ (.+)$|^```(\w*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        title = match[1] or title
        if match[1] is None:
            yield Block(page, title, match[2], text.count("\n", 0, match.start(3)) + 1, match[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = {f"{b.page.parent.name}-{b.title}-{b.line}": b for b in BLOCKS if b.language == "python"}
SHELL = [line for block in BLOCKS if block.language == "sh" for line in block.code.splitlines()]
PEERS = ("equinox", "flax", "keras", "onnxruntime", "optax", "torch")
SLOW = ("From Python",)  # trains


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Blocks may change the rank promotion. Their nets are small: they compile longer than they run."""
    promotion, fast = jax.config.jax_numpy_rank_promotion, jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_numpy_rank_promotion", promotion)
    jax.config.update("jax_disable_most_optimizations", fast)


def run(block: Block) -> dict[str, Any]:
    """The names that a block leaves. It runs behind the imports of its page's first block."""
    frameworks.need(*(peer for peer in PEERS if re.search(rf"^\s*(import|from) {peer}\b", block.code, re.MULTILINE)))
    first = next(other for other in PYTHON.values() if other.page == block.page)
    module = types.ModuleType("readme")
    exec("".join(re.findall(r"^import .*\n", first.code, re.MULTILINE)), vars(module))
    # Empty lines in front, so that a traceback names the page's line.
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
    with frameworks.settings() if "import keras" in block.code else contextlib.nullcontext():
        exec(code, vars(module))
    return vars(module)


# ---- claims of the text beside the asserts of its blocks; each gets the names that its block leaves

Names: TypeAlias = dict[str, Any]


def a_seed_of_ten_is_the_seed_alone(ten: Names) -> None:
    (params, _), losses = jax.jit(ten["run"])(3)
    equal(losses, ten["losses"][3], 0, rtol=1e-3)
    equal(params, jax.tree.map(lambda a: a[3], ten["params"]), 1e-3, rtol=1e-7)


def the_training_step_donates_its_buffers(training: Names) -> None:
    before = training["params"]
    after, _, _ = training["train_step"](before, training["opt_state"], jax.random.key(9))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def a_linen_module_holds_our_params(linen: Names) -> None:
    params, x = linen["variables"]["params"], jax.random.normal(jax.random.key(1), (2, 7, 3))
    _, y = jlstm.unroll(jlstm.LSTM(16), params["lstm"], x, return_sequences=True)
    want = jnp.einsum("bth,hk->btk", y, params["Dense_0"]["kernel"])  # its bias begins at 0
    equal(linen["Tagger"]().apply({"params": params}, x), want, 1e-5, rtol=1e-7)
    grads = jax.grad(lambda p: linen["Tagger"]().apply({"params": p}, x).sum())(params)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(grads["lstm"]))


CLAIMS = {
    "Ten seeds at once": a_seed_of_ten_is_the_seed_alone,
    "Training": the_training_step_donates_its_buffers,
    "Inside a flax module": a_linen_module_holds_our_params,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if b.title in SLOW else ()) for n, b in PYTHON.items()]
)
def test_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where blocks write their files
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    names, claim = run(PYTHON[name]), CLAIMS.get(PYTHON[name].title)
    if claim is not None:
        claim(names)


def test_claims_have_blocks() -> None:
    assert CLAIMS.keys() <= {block.title for block in PYTHON.values()}


def test_every_language_is_run_or_known() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "sh", "text"}
    fences = sum(len(re.findall("^```", text, re.MULTILINE)) for text in TEXTS.values())
    assert len(PYTHON) > 20 and fences == 2 * len(BLOCKS)


def test_the_root_page() -> None:
    begin = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    ends = '".[experiments]" && python -m experiments.run configs/adding.toml', '".[test]" && pytest'
    assert SHELL[:2] == [begin + end for end in ends]
    assert TEXTS[MANUALS[0]].count("\n") <= 160
    first = next(block for block in PYTHON.values() if block.page == MANUALS[0])
    assert len(first.code.split("\n\n")) <= 3 and len([line for line in first.code.splitlines() if line]) == 15


# ---- links, names, commands


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    outside = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_resolve(page: Path) -> None:
    for link in re.findall(r"\]\((?!https://)([^)\s]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_named_files_extras_and_modules_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra for group in re.findall(r"\[([a-z0-9,]+)\]\"", MANUAL) for extra in group.split(",")}
    assert extras and extras <= set(project["optional-dependencies"])
    paths = set(re.findall(r"\b(?:configs|tests|jlstm|experiments)/[\w/.]*\.(?:toml|py)\b", MANUAL))
    assert paths and all((ROOT / path).exists() for path in paths), paths
    modules = set(re.findall(r"python -m ([\w.]+)", MANUAL)) - {"venv"}
    assert modules and all(importlib.util.find_spec(name) for name in modules), modules


def test_named_overrides_are_config_keys() -> None:
    lines = [line for line in SHELL if line.startswith("python -m experiments.run ")]
    assert lines
    for _, _, _, path, *rest in map(shlex.split, lines):
        config.load(str(ROOT / path), [word for word in rest if "=" in word and "$" not in word])


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [jlstm.__version__]


def test_the_table_of_cells_counts_parameters() -> None:
    sizes = {"D": 3, "H": 8, "P": 2, "N": 2, "S": 4}
    options = {"ProjectedLSTM": {"projected_size": 2}, "SLSTM": {"heads": 2}, "OriginalLSTM": {"block_size": 4}}
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*\(D \+[^|]*) \|$", TEXTS[MANUALS[1]], re.MULTILINE)
    assert len(rows) == 9
    for name, formula in rows:
        first, _, other = formula.partition("; without `reset_after` ")
        for text, more in ((first, {}), *(((other, {"reset_after": False}),) if other else ())):
            product = re.sub(r"(?<=[0-9A-Z)])(?=[A-Z(])", "*", text)
            cell = getattr(jlstm, name)(8, **options.get(name, {}), **more)
            params = jax.eval_shape(functools.partial(cell.init, input_size=3), jax.random.key(0))
            assert eval(product, sizes) == sum(leaf.size for leaf in jax.tree.leaves(params)), (name, product)
