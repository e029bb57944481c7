"""The corpus of the character language model and the n-grams that it is measured against."""

import bz2
import hashlib
import math
import os
import sysconfig
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from experiments import corpus, ngrams


def uint8(text: bytes) -> ngrams.Bytes:
    return np.frombuffer(text, np.uint8)


def words(n: int, seed: int) -> bytes:
    """Random text of n bytes with something to predict: words from a small, skewed dictionary."""
    rng = np.random.default_rng(seed)
    dictionary = [bytes(rng.integers(97, 105, size=rng.integers(1, 6)).tolist()) for _ in range(40)]
    return b" ".join(dictionary[i] for i in rng.zipf(1.5, size=n) % 40)[:n]


def write(folder: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def many_files(folder: Path, n: int = 100) -> dict[str, bytes]:
    """n text files of about 300 bytes, no two alike."""
    files = {f"part{i % 7}/{i:03}.txt": b"file %03d\n" % i + words(250 + i, seed=i) + b"\n" for i in range(n)}
    write(folder, files)
    return files


# Witten-Bell


def brute_force(train: bytes, text: bytes, order: int) -> list[float]:
    """The recursion as it is written, with dictionaries of byte strings."""
    count: dict[bytes, int] = defaultdict(int)
    context: dict[bytes, int] = defaultdict(int)
    after: dict[bytes, set[int]] = defaultdict(set)
    for n in range(order + 1):
        for i in range(n, len(train)):
            h = train[i - n : i]
            count[h + train[i : i + 1]] += 1
            context[bytes([n]) + h] += 1
            after[bytes([n]) + h].add(train[i])

    def p(w: bytes, h: bytes, n: int) -> float:
        lower = p(w, h[1:], n - 1) if n else 1 / 256
        key = bytes([n]) + h
        if not context[key]:
            return lower
        distinct = len(after[key])
        return (count[h + w] + distinct * lower) / (context[key] + distinct)

    result: list[float] = []
    for i in range(len(text)):
        n = min(i, order)
        result.append(p(text[i : i + 1], text[i - n : i], n))
    return result


@pytest.mark.parametrize("order", [0, 1, 3, 5, 7])
def test_witten_bell_equals_the_recursion_over_dictionaries(order: int) -> None:
    train, text = words(3000, seed=1), words(400, seed=1)[200:] + words(200, seed=2) + b"\x00\xff never seen \xff"
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


def test_witten_bell_of_a_text_shorter_than_its_context() -> None:
    np.testing.assert_allclose(
        ngrams.probabilities(uint8(b"abcabcabc"), uint8(b"ab"), 7), brute_force(b"abcabcabc", b"ab", 7), rtol=1e-12
    )


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


def test_ngram_errors() -> None:
    train = uint8(b"abcabc")
    with pytest.raises(TypeError, match=r"^baselines: train: expected uint8 of rank 1, got int64 \[3\]\.$"):
        ngrams.baselines(np.arange(3, dtype=np.int64), train)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^probabilities: text: expected uint8 of rank 1, got uint8 \[1, 6\]\.$"):
        ngrams.probabilities(train, train[None], 2)
    with pytest.raises(ValueError, match=r"^probabilities: order: expected 0 \.\. 7 bytes of context, got 8\.$"):
        ngrams.probabilities(train, train, 8)
    with pytest.raises(ValueError, match=r"^probabilities: train: expected more than 6 bytes for order 6, got 6\.$"):
        ngrams.probabilities(train, train, 6)
    with pytest.raises(ValueError, match=r"^baselines: text: expected at least one byte to predict, got none\.$"):
        ngrams.baselines(train, train[:0])


# The corpus


def test_the_standard_library_is_found_split_and_the_same_twice() -> None:
    first, second = corpus.load(), corpus.load()
    assert first.sha256 == second.sha256 and first.vocabulary == second.vocabulary
    np.testing.assert_array_equal(first.held_out, second.held_out)
    np.testing.assert_array_equal(first.train, second.train)
    assert first.train.dtype == first.held_out.dtype == np.uint8
    assert len(first.train) + len(first.held_out) == first.n_bytes
    assert 0.045 < len(first.held_out) / first.n_bytes <= 0.05
    assert first.files > 200 and first.n_bytes > 4_000_000
    assert "standard library" in first.source
    both = (first.train.tobytes(), first.held_out.tobytes())
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse.py", "json/decoder.py", "unittest/mock.py"):  # whole, and on one side
        assert sum((library / name).read_bytes() in part for part in both) == 1


def test_the_library_is_taken_without_tests_tables_and_what_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {f"lib{i % 3}/m{i:02}.py": b"# %02d\n" % i + words(300, seed=i) for i in range(60)}
    other = [
        f"{d}/x.py"
        for d in ("test", "json/tests", "idlelib/idle_test", "site-packages/a", "dist-packages", "venv/test")
    ]
    other += [
        f"{d}/x.py" for d in ("lib0/__pycache__", "encodings", "pydoc_data", "lib2to3", "config-3.11-x86_64-linux-gnu")
    ]
    other += ["_sysconfigdata__linux_.py", "sitecustomize.py", "LICENSE.txt", "lib0/data.json", "lib-dynload/m.so"]
    write(tmp_path, source | dict.fromkeys(other, b"!" * 5000) | {"empty.py": b"", "latin.py": b"# \xe9\n"})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    found = corpus.load()
    assert found.files == 60
    assert found.sha256 == hashlib.sha256(b"".join(source[name] for name in sorted(source))).hexdigest()


def test_the_split_takes_whole_files(tmp_path: Path) -> None:
    files = many_files(tmp_path)
    found = corpus.load(str(tmp_path))
    train, held_out = found.train.tobytes(), found.held_out.tobytes()
    assert found.files == len(files) and found.n_bytes == sum(map(len, files.values()))
    sides = {name: (data in train, data in held_out) for name, data in files.items()}
    assert set(sides.values()) == {(True, False), (False, True)}
    assert train == b"".join(files[name] for name in sorted(files) if sides[name][0])
    assert held_out == b"".join(files[name] for name in sorted(files) if sides[name][1])
    assert 0.025 <= len(held_out) / found.n_bytes <= 0.05


def test_the_split_depends_on_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_files(tmp_path / "a")
    first = corpus.load(str(tmp_path / "a"))
    walk = os.walk

    def backwards(root: Path) -> list[tuple[str, list[str], list[str]]]:
        return [(directory, below, names[::-1]) for directory, below, names in reversed(list(walk(root)))]

    monkeypatch.setattr(os, "walk", backwards)  # another file system lists in another order
    os.rename(tmp_path / "a", tmp_path / "b")
    second = corpus.load(str(tmp_path / "b"))
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.held_out, second.held_out)


def test_a_single_file_is_split_near_its_end_at_a_line(tmp_path: Path) -> None:
    text = b"".join(b"line %05d of the text\n" % i for i in range(2000))
    (tmp_path / "text.txt").write_bytes(text)
    found = corpus.load(str(tmp_path / "text.txt"))
    assert found.train.tobytes() + found.held_out.tobytes() == text
    assert found.held_out.tobytes().startswith(b"line ")
    assert 0.04 < len(found.held_out) / len(text) <= 0.05
    assert found.files == 1 and found.sha256 == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("shift", range(3))
def test_a_file_without_lines_is_not_cut_inside_a_character(tmp_path: Path, shift: int) -> None:
    text = "a" * shift + "→" * 5000  # three bytes each
    (tmp_path / "text.txt").write_bytes(text.encode())
    found = corpus.load(str(tmp_path / "text.txt"))
    assert found.train.tobytes().decode() + found.held_out.tobytes().decode() == text


def test_few_large_files_are_split_like_one(tmp_path: Path) -> None:
    write(tmp_path, {f"{i}.md": words(10_000, seed=i) + b"\n" for i in range(3)})
    found = corpus.load(str(tmp_path))
    assert 0.04 < len(found.held_out) / found.n_bytes <= 0.05
    assert (tmp_path / "2.md").read_bytes().endswith(found.held_out.tobytes())


def test_a_directory_passes_over_what_is_no_text(tmp_path: Path) -> None:
    files = many_files(tmp_path)
    other = {
        "model.bin": b"\x00" * 20_000,
        "late.bin": b"a" * 9000 + b"\xff\xfe",
        "latin.txt": "é".encode("latin1") * 9,
    }
    other |= {".git/HEAD": b"ref", ".hidden": b"x", "src/__pycache__/a.txt": b"x", "empty.txt": b""}
    other |= {"env/pyvenv.cfg": b"home = /usr", "env/lib/a.py": b"x"}
    write(tmp_path, other)
    assert corpus.load(str(tmp_path)).files == len(files)


def test_encode_and_decode_round_trip_with_an_unknown_byte(tmp_path: Path) -> None:
    many_files(tmp_path)
    found = corpus.load(str(tmp_path))
    assert list(found.vocabulary) == sorted(set(found.train.tolist()))
    assert found.size == len(found.vocabulary) + 1
    ids = found.encode(found.held_out)
    assert ids.dtype == np.int32 and ids.shape == found.held_out.shape and ids.max() < found.size - 1
    assert found.decode(ids) == found.held_out.tobytes().decode()
    ids = found.encode(b"ab~c")  # ~ occurs nowhere
    assert ids[2] == found.size - 1 and found.decode(ids) == "ab\N{REPLACEMENT CHARACTER}c"
    assert found.decode([]) == "" and found.encode(b"").shape == (0,)
    with pytest.raises(TypeError, match=r"^Corpus\.encode: text: expected bytes or a uint8 array \[n\], got str\."):
        found.encode("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got int32 \[3\]\."):
        found.encode(np.zeros(3, np.int32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"^Corpus\.decode: ids: expected 0 \.\. {found.size - 1}, got 0 \.\. 400\."):
        found.decode(np.array([0, 400]))


def test_characters_of_several_bytes_round_trip(tmp_path: Path) -> None:
    text = "größer → 長短期記憶\n" * 600
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    found = corpus.load(str(tmp_path / "text.txt"))
    assert found.decode(found.encode("→ 長期".encode())) == "→ 長期"
    assert found.decode(found.encode("→".encode())[:2]) == "\N{REPLACEMENT CHARACTER}"  # a sample may stop inside one


def test_errors_are_one_line_and_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, folder = tmp_path / "empty.txt", tmp_path / "folder"
    empty.write_bytes(b"")
    folder.mkdir()
    (tmp_path / "short.txt").write_bytes(b"short " * 100)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin1") * 20_000)
    cases = {
        str(tmp_path / "none.txt"): r"expected a text file or a directory, got '.*none\.txt', which does not exist\.",
        str(empty): r"expected UTF-8 text, got '.*empty\.txt', which holds none\.",
        str(folder): r"expected UTF-8 text, got '.*folder', which holds none\.",
        str(tmp_path / "short.txt"): r"expected 10000 bytes or more, got 600 in '?.*short\.txt'?\.",
        str(tmp_path / "latin.txt"): r"expected UTF-8 text, got '.*latin\.txt', which is not\.",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=rf"^corpus: data\.path: {message}") as error:
            corpus.load(path)
        assert "\n" not in str(error.value) and "data.path=" in str(error.value)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(folder)})  # a Python without its sources
    with pytest.raises(ValueError, match=r"the standard library, without its \*\.py files\. Type data\.path="):
        corpus.load()


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_files(tmp_path)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ValueError, match=r"^corpus: data\.path: cannot read '.*\.txt': Permission denied\."):
        corpus.load(str(tmp_path))
