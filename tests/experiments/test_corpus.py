"""The corpus of the character language model and the n-grams that it is measured against."""

import bz2
import hashlib
import math
import os
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from experiments import corpus, ngrams

Files = dict[str, bytes]

pytestmark = pytest.mark.usefixtures("elsewhere")


def uint8(text: bytes) -> ngrams.Bytes:
    return np.frombuffer(text, np.uint8)


def words(n: int, seed: int) -> bytes:
    """Random text of n bytes with something to predict: words from a small, skewed dictionary."""
    rng = np.random.default_rng(seed)
    dictionary = [bytes(rng.integers(97, 105, size=rng.integers(1, 6)).tolist()) for _ in range(40)]
    return b" ".join(dictionary[i] for i in rng.zipf(1.5, size=n) % 40)[:n]


def write(folder: str, files: Files) -> None:
    for name, data in files.items():
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_bytes(data)


def load_text(text: bytes) -> corpus.Corpus:
    """The corpus of one file."""
    write(".", {"text.txt": text})
    return corpus.load("text.txt")


@pytest.fixture
def files(elsewhere: None) -> Files:
    """100 text files of about 300 bytes below many/, no two alike."""
    files = {f"part{i % 7}/{i:03}.txt": b"file %03d\n" % i + words(250 + i, seed=i) + b"\n" for i in range(100)}
    write("many", files)
    return files


def sides(found: corpus.Corpus) -> tuple[bytes, bytes]:
    return found.train.tobytes(), found.held_out.tobytes()


def held_out_share(found: corpus.Corpus) -> float:
    return len(found.held_out) / found.n_bytes


# Witten-Bell


def brute_force(train: bytes, text: bytes, order: int) -> list[float]:
    """The recursion as it is written, with dictionaries of byte strings."""
    after: dict[bytes, Counter[int]] = defaultdict(Counter)  # the bytes after each context, counted
    for n in range(order + 1):
        for i in range(n, len(train)):
            after[train[i - n : i]][train[i]] += 1

    def p(w: int, h: bytes) -> float:
        lower = p(w, h[1:]) if h else 1 / 256
        seen = after[h]
        return (seen[w] + len(seen) * lower) / (seen.total() + len(seen)) if seen else lower

    return [p(w, text[max(i - order, 0) : i]) for i, w in enumerate(text)]


LONG = words(3000, seed=1), words(400, seed=1)[200:] + words(200, seed=2) + b"\x00\xff never seen \xff"
SHORT = b"abcabcabc", b"ab"  # a text that is shorter than a context


@pytest.mark.parametrize(("pair", "order"), [*((LONG, order) for order in (0, 1, 3, 5, 7)), (SHORT, 7)])
def test_witten_bell_equals_the_recursion_over_dictionaries(pair: tuple[bytes, bytes], order: int) -> None:
    train, text = pair
    p = ngrams.probabilities(uint8(train), uint8(text), order)
    assert p.dtype == np.float64 and p.shape == (len(text),)
    np.testing.assert_allclose(p, brute_force(train, text, order), rtol=1e-12, atol=0)


def test_witten_bell_sums_to_one_after_any_context() -> None:
    train = words(2000, seed=3)
    for context in (train[500:505], train[-5:], b"\x00" + train[7:11], b"\xff\xff\xff\xff\xff"):
        text = b"".join(context + bytes([w]) for w in range(256))
        p = ngrams.probabilities(uint8(train), uint8(text), 5)[5::6]
        assert p.shape == (256,) and p.min() > 0
        assert math.isclose(math.fsum(p), 1.0, rel_tol=1e-12)


def test_baselines_are_bits_per_byte_of_the_held_out_text() -> None:
    train, held_out = words(20_000, seed=4), words(3000, seed=4)[1000:]
    result = ngrams.baselines(uint8(train), uint8(held_out))
    assert list(result) == ["bz2", "witten-bell-3", "witten-bell-4", "witten-bell-5"]
    assert result["bz2"] == 8 * len(bz2.compress(held_out, 9)) / 2000
    for order in ngrams.ORDERS:
        expected = -sum(math.log2(p) for p in brute_force(train, held_out, order)) / 2000
        assert math.isclose(result[f"witten-bell-{order}"], expected, rel_tol=1e-12)


def test_noise_costs_eight_bits_and_a_constant_next_to_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=60_000).astype(np.uint8)
    result = ngrams.baselines(noise[:50_000], noise[50_000:])
    assert all(7.9 < bits < 9 for bits in result.values())
    same = np.full(5000, 97, np.uint8)
    assert all(bits < 0.1 for bits in ngrams.baselines(same, same).values())


TRAIN = uint8(b"abcabc")


@pytest.mark.parametrize(
    ("kind", "f", "arguments", "words"),
    [
        (TypeError, ngrams.baselines, (np.arange(3), TRAIN), r"baselines: train: .*uint8 of rank 1, got int64 \[3\]"),
        (TypeError, ngrams.probabilities, (TRAIN, TRAIN[None], 2), r"probabilities: text: .*, got uint8 \[1, 6\]"),
        (ValueError, ngrams.probabilities, (TRAIN, TRAIN, 8), r"probabilities: order: expected 0 \.\. 7 .*, got 8"),
        (ValueError, ngrams.probabilities, (TRAIN, TRAIN, 6), "probabilities: train: .* 6 bytes for order 6, got 6"),
        (ValueError, ngrams.baselines, (TRAIN, TRAIN[:0]), "baselines: text: expected at least one byte .*, got none"),
    ],
)
def test_ngram_errors(kind: type[Exception], f: Callable[..., Any], arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(kind, match=rf"^{words}\.$"):
        f(*arguments)


# The corpus


def test_the_standard_library_is_found_split_and_the_same_twice() -> None:
    first, second = corpus.load(), corpus.load()
    assert first.sha256 == second.sha256 and first.vocabulary == second.vocabulary and sides(first) == sides(second)
    assert first.train.dtype == first.held_out.dtype == np.uint8
    assert len(first.train) + len(first.held_out) == first.n_bytes
    assert 0.045 < held_out_share(first) <= 0.05
    assert first.files > 200 and first.n_bytes > 4_000_000
    assert "standard library" in first.source
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse.py", "json/decoder.py", "unittest/mock.py"):  # whole, and on one side
        assert sum((library / name).read_bytes() in side for side in sides(first)) == 1


def test_the_library_is_taken_without_tests_tables_and_installed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    source = {f"lib{i % 3}/m{i:02}.py": b"# %02d\n" % i + words(300, seed=i) for i in range(60)}
    folders = ["test", "json/tests", "idlelib/idle_test", "site-packages/a", "dist-packages", "venv/test"]
    folders += ["lib0/__pycache__", "encodings", "pydoc_data", "lib2to3", "config-3.11-x86_64-linux-gnu"]
    other = ["_sysconfigdata__linux_.py", "sitecustomize.py", "LICENSE.txt", "lib0/data.json", "lib-dynload/m.so"]
    other += [f"{folder}/x.py" for folder in folders]
    write("lib", source | dict.fromkeys(other, b"!" * 5000) | {"empty.py": b"", "latin.py": b"# \xe9\n"})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": "lib"})
    found = corpus.load()
    assert found.files == 60
    assert found.sha256 == hashlib.sha256(b"".join(source[name] for name in sorted(source))).hexdigest()


def test_the_split_takes_whole_files(files: Files) -> None:
    found = corpus.load("many")
    assert found.files == len(files) and found.n_bytes == sum(map(len, files.values()))
    is_in = {name: tuple(data in side for side in sides(found)) for name, data in files.items()}
    assert set(is_in.values()) == {(True, False), (False, True)}
    for n, side in enumerate(sides(found)):
        assert side == b"".join(files[name] for name in sorted(files) if is_in[name][n])
    assert 0.025 <= held_out_share(found) <= 0.05


def test_the_split_depends_on_the_files_alone(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    first, walk = corpus.load("many"), os.walk

    def backwards(root: Path) -> list[tuple[str, list[str], list[str]]]:
        return [(directory, below, names[::-1]) for directory, below, names in reversed(list(walk(root)))]

    monkeypatch.setattr(os, "walk", backwards)  # another file system lists in another order
    os.rename("many", "other")
    second = corpus.load("other")
    assert first.sha256 == second.sha256 and sides(first) == sides(second)


def test_a_single_file_is_split_near_its_end_at_a_line() -> None:
    found = load_text(text := b"".join(b"line %05d of the text\n" % i for i in range(2000)))
    assert b"".join(sides(found)) == text
    assert found.held_out.tobytes().startswith(b"line ")
    assert 0.04 < held_out_share(found) <= 0.05
    assert found.files == 1 and found.sha256 == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("shift", range(3))
def test_a_file_without_lines_is_not_cut_inside_a_character(shift: int) -> None:
    text = "a" * shift + "→" * 5000  # three bytes each
    assert "".join(side.decode() for side in sides(load_text(text.encode()))) == text


def test_few_large_files_are_split_like_one() -> None:
    write("few", files := {f"{i}.md": words(10_000, seed=i) + b"\n" for i in range(3)})
    found = corpus.load("few")
    assert 0.04 < held_out_share(found) <= 0.05
    assert files["2.md"].endswith(found.held_out.tobytes())


def test_a_directory_passes_over_other_files_than_text(files: Files) -> None:
    other = {"model.bin": b"\x00" * 20_000, "late.bin": b"a" * 9000 + b"\xff\xfe", "latin.txt": b"\xe9" * 9}
    other |= {".git/HEAD": b"ref", ".hidden": b"x", "src/__pycache__/a.txt": b"x", "empty.txt": b""}
    other |= {"env/pyvenv.cfg": b"home = /usr", "env/lib/a.py": b"x"}
    write("many", other)
    assert corpus.load("many").files == len(files)


def test_encode_and_decode_round_trip_with_an_unknown_byte(files: Files) -> None:
    found = corpus.load("many")
    assert list(found.vocabulary) == sorted(set(found.train.tolist()))
    assert found.size == len(found.vocabulary) + 1
    ids = found.encode(found.held_out)
    assert ids.dtype == np.int32 and ids.shape == found.held_out.shape and ids.max() < found.size - 1
    assert found.decode(ids) == found.held_out.tobytes().decode()
    ids = found.encode(b"ab~c")  # ~ occurs nowhere
    assert ids[2] == found.size - 1 and found.decode(ids) == "ab\N{REPLACEMENT CHARACTER}c"
    assert found.decode([]) == "" and found.encode(b"").shape == (0,)
    wrong: dict[str, Any] = {r"str\.": "text", r"int32 \[3\]\.": np.zeros(3, np.int32)}
    for got, text in wrong.items():
        with pytest.raises(TypeError, match=rf"^Corpus\.encode: text: expected bytes or a uint8 .*, got {got}"):
            found.encode(text)
    with pytest.raises(ValueError, match=rf"^Corpus\.decode: ids: expected 0 \.\. {found.size - 1}, got 0 \.\. 400\."):
        found.decode(np.array([0, 400]))


def test_characters_of_several_bytes_round_trip() -> None:
    found = load_text(("größer → 長短期記憶\n" * 600).encode())
    assert found.decode(found.encode("→ 長期".encode())) == "→ 長期"
    assert found.decode(found.encode("→".encode())[:2]) == "\N{REPLACEMENT CHARACTER}"  # a sample may stop inside one


def check_error(path: str, words: str) -> None:
    """Check that a corpus is refused with one line of these words, which says what to type."""
    with pytest.raises(ValueError, match=rf"^corpus: data\.path: {words} Type .*data\.path=") as error:
        corpus.load(path)
    assert "\n" not in str(error.value)


def test_errors_are_one_line_and_say_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    write(".", {"empty.txt": b"", "short.txt": b"short " * 100, "latin.txt": b"\xe9" * 20_000})
    Path("folder").mkdir()
    wrong = {
        "none.txt": r"expected a text file or a directory, got 'none\.txt', which does not exist\.",
        "empty.txt": r"expected UTF-8 text, got 'empty\.txt', which holds none\.",
        "folder": r"expected UTF-8 text, got 'folder', which holds none\.",
        "short.txt": r"expected 10000 bytes or more, got 600 in .*short\.txt'?\.",
        "latin.txt": r"expected UTF-8 text, got 'latin\.txt', which is not\.",
    }
    for name, words in wrong.items():
        check_error(name, words)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": "folder"})  # a Python without its sources
    check_error("", r".*the standard library, without its \*\.py files\.")


def test_an_unreadable_file_is_named(files: Files) -> None:
    with mock.patch.object(Path, "open", side_effect=PermissionError(13, "Permission denied")):
        check_error("many", r"cannot read '.*\.txt': Permission denied\.")
