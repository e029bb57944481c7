"""The order of the house: a module imports only from lines above its own."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ABOVE = ["version", "types", "checks", "call_checks", "records", "initializers", "cells", "kernels", "engine", "api"]
ORDER = [*ABOVE, "layers", "description", "files", "convert", "flax_nnx", "__init__"]
FOREIGN = {"jax", "numpy"}
ALSO = {  # where more is imported; that of convert inside of functions
    "files.py": {"safetensors", "ml_dtypes"},
    "convert/__main__.py": {"safetensors", "torch"},
    "convert/onnx.py": {"google"},
    "convert/onnx_graph.py": {"onnx"},
    "flax_nnx.py": {"flax"},
}
PUBLIC = {"jlstm", "jlstm.initializers", "jlstm.cells", "jlstm.convert"}


def imports(code: str) -> list[str]:
    """Dotted names of the modules that a source imports, outside of the standard library's."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "jlstm":
            names += [f"jlstm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


def wrong(path: str, code: str) -> list[str]:
    """The imports that a file of the library, at `path` below jlstm/, may not have."""
    line = ORDER.index(path.split("/")[0].removesuffix(".py"))
    shared = {"jlstm.cells.gates", "jlstm.cells.wrapper"}  # what cells have in common
    bad = []
    for name in imports(code):
        if name.startswith("jlstm"):
            there = name.split(".")[1]
            above = ORDER.index(there) < line
            free = there != "cells" or path == "cells/__init__.py" or name in shared | {"jlstm.cells"}
            inside = there == ORDER[line] and free
            if not above and not (inside and "/" in path):
                bad.append(name)
        elif name.split(".")[0] not in FOREIGN | ALSO.get(path, set()):
            bad += [name] if name.split(".")[0] not in sys.stdlib_module_names else []
    return bad


LIBRARY = sorted((ROOT / "jlstm").rglob("*.py"))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_library_imports_from_above(path):
    assert wrong(path.relative_to(ROOT / "jlstm").as_posix(), path.read_text()) == []


@pytest.mark.parametrize(
    "path, code",
    [
        ("checks.py", "from jlstm.engine import Run"),
        ("cells/lstm.py", "from jlstm.cells.gru import GRU"),
        ("layers/stack.py", "import flax"),
        ("engine.py", "from jlstm import layers"),
        ("files.py", "from jlstm import convert"),
        ("convert/torch.py", "import torch"),
        ("convert/flax.py", "from jlstm import flax_nnx"),
        ("engine.py", "from jlstm.engine import Run"),
    ],
)
def test_the_rule_sees_what_is_wrong(path, code):
    assert wrong(path, code)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda p: p.name)
def test_experiments_use_public_names(path):
    used = [name for name in imports(path.read_text()) if name.startswith("jlstm.")]
    import jlstm

    assert all(name in PUBLIC or hasattr(jlstm, name.removeprefix("jlstm.")) for name in used), used


def test_files_are_short_and_named():
    for path in [p for folder in ("jlstm", "experiments", "tests") for p in (ROOT / folder).rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path


def lines_of_code(path: Path) -> int:
    """The lines of a file without its docstrings, which explain to users, and may be as long as that takes."""
    text = path.read_text()
    docs = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and is_text(node.value)]
    return len(text.splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in docs)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_library_is_small():
    bounds = {"native": 439, "convert": 0}  # the C++ beside the native kernel's Python is not counted
    lines = dict.fromkeys(bounds, 0) | {"": 0}
    for path in LIBRARY:
        lines[path.parent.name if path.parent.name in bounds else ""] += lines_of_code(path)
    assert lines[""] <= 3490 and lines["native"] <= bounds["native"], lines
    import jlstm

    assert len(jlstm.__all__) <= 44 and all(hasattr(jlstm, name) for name in jlstm.__all__)


CELLS = [path for path in (ROOT / "jlstm/cells").glob("*.py") if path.stem not in ("__init__", "gates", "wrapper")]


def test_a_cell_is_one_page():
    for path in CELLS:
        assert len(path.read_text().splitlines()) <= 130, path


def lines_in_bodies(path: Path) -> set[str]:
    """The lines of all functions and methods, without their signatures and docstrings; brackets alone do not count."""
    text, found = path.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body[1:] if ast.get_docstring(node) else node.body:
                found |= {line.strip() for line in text.splitlines()[statement.lineno - 1 : statement.end_lineno]}
    return {line for line in found if len(line) > 2}


def test_no_two_cells_share_ten_lines():
    for n, one in enumerate(CELLS):
        for other in CELLS[n + 1 :]:
            assert len(lines_in_bodies(one) & lines_in_bodies(other)) < 10, (one, other)


def test_the_wheel_holds_jlstm_alone():
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert find == {"include": ["jlstm*"]}
    assert [path.parent.name for path in ROOT.glob("jlstm*/__init__.py")] == ["jlstm"]
