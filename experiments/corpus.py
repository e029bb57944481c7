"""The text of the character language model, as bytes: the source code of Python's standard library, or your own text.

Nothing is downloaded. The default corpus is the standard library of the running Python, without its tests. It differs
slightly between versions, so a result records the version, the file count, the bytes and their SHA-256.
"""

import hashlib
import os
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ids: TypeAlias = npt.NDArray[np.int32]

HELD_OUT = 0.05  # of the bytes
MIN_BYTES = 10_000  # with fewer, the held-out part is under 500 bytes, too short to measure

# Directories of the standard library that are not its source code. `encodings` and `pydoc_data` are written by
# generators; the code pages are near copies of each other, so a held-out one would have been seen in training. The
# programs (idlelib, lib2to3, turtledemo) are missing in some distributions of Python.
_TESTS = {"test", "tests", "idle_test"}
_INSTALLED = {"site-packages", "dist-packages", "__pycache__"}
_GENERATED = {"encodings", "pydoc_data"}
_PROGRAMS = {"idlelib", "lib2to3", "turtledemo"}
_SKIPPED = _TESTS | _INSTALLED | _GENERATED | _PROGRAMS
# Written when Python was built (with its paths) or by the administrator, so the bytes differ between machines.
_MACHINE = ("_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize")

_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()
_HINT = "Type data.path=/path/to/a/text.txt (or a directory of UTF-8 text files)"
_DEFAULT = 'or data.path="" for the source code of Python\'s standard library.'


@dataclass(frozen=True, eq=False)  # arrays have no single truth value: compare sha256
class Corpus:
    """A text in bytes with a fixed split into a training part and a held-out part.

    train       uint8 [N], the training files, one after the other in the order of their paths
    held_out    uint8 [M], about 5 % of the bytes: whole files, or the end where the text is one file
    vocabulary  the distinct bytes of `train`, ascending
    files       number of (non-empty) files in both parts
    n_bytes     N + M
    sha256      hexadecimal SHA-256 of all files' bytes in the order of their paths, both parts together
    source      what the text is, in words
    """

    train: Bytes
    held_out: Bytes
    vocabulary: bytes
    files: int
    n_bytes: int
    sha256: str
    source: str

    @property
    def size(self) -> int:
        """Number of ids: one for each byte of the vocabulary, and the last for every other byte."""
        return len(self.vocabulary) + 1

    def encode(self, text: Bytes | bytes) -> Ids:
        """Return the ids, int32 `[n]`, of the `n` bytes of `text` (uint8 `[n]` or bytes). Raises TypeError otherwise.

        A byte that is not in the vocabulary becomes the last id, `size - 1`.
        """
        given = np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text
        if not isinstance(given, np.ndarray) or given.dtype != np.uint8 or given.ndim != 1:
            got = f"{given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else type(given).__name__
            raise TypeError(f"Corpus.encode: text: expected bytes or a uint8 array [n], got {got}. Type text.encode().")
        ids = np.full(256, self.size - 1, np.int32)
        ids[np.frombuffer(self.vocabulary, np.uint8)] = np.arange(len(self.vocabulary), dtype=np.int32)
        return ids[given]

    def decode(self, ids: npt.NDArray[np.integer] | Sequence[int]) -> str:
        """Return the text of integer `ids` `[n]`. U+FFFD stands for the last id and for bytes that are not UTF-8.

        Raises ValueError for an id outside `0 .. size - 1`.
        """
        wanted = [int(i) for i in ids]
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.size:
            got = f"{min(wanted)} .. {max(wanted)}"
            raise ValueError(
                f"Corpus.decode: ids: expected 0 .. {self.size - 1}, got {got}. Use this corpus's own ids."
            )
        pieces = [bytes([b]) for b in self.vocabulary] + [_UNKNOWN]
        return b"".join(pieces[i] for i in wanted).decode("utf-8", errors="replace")


def load(path: str = "") -> Corpus:
    """Load the corpus at `path`: a UTF-8 text file, or every UTF-8 text file of a directory.

    `path=""` is the source code of this Python's standard library, found through `sysconfig`: every `*.py` except the
    tests, the generated tables (`encodings`, `pydoc_data`), the programs (`idlelib`, `lib2to3`, `turtledemo`) and the
    files installed or written for one machine. In your own directory, binary files (not UTF-8, or with a zero byte),
    hidden files and directories, `__pycache__` and virtual environments are skipped.

    The split depends on the files alone, never on a seed. Files are visited in the order of the SHA-256 of their
    relative paths; a file is held out if the held-out part stays within 5 % of the bytes. If this holds out less than
    2.5 % (one file, or few large ones), the last 5 % of the text is held out instead, from a nearby start of a line if
    there is one.

    Raises ValueError for a path that is missing or unreadable, for text that is not UTF-8, and under 10 000 bytes.
    """
    if path:
        root = Path(path).expanduser()
        if not os.path.exists(root):  # Path.exists raises if a parent is not readable
            raise ValueError(
                f"corpus: data.path: expected a text file or a directory, got {path!r}, which does not exist. "
                f"{_HINT}, {_DEFAULT}"
            )
        files = _user_files(root, path)
        source = f"text of {path}"
    else:
        root = Path(sysconfig.get_paths()["stdlib"])
        files = _library_files(root)
        source = f"{platform.python_implementation()} {platform.python_version()} standard library"
    n_bytes = sum(map(len, files.values()))
    if n_bytes == 0:
        what = f"{path!r}, which holds none" if path else f"{str(root)!r}, the standard library, without its *.py files"
        raise ValueError(f"corpus: data.path: expected UTF-8 text, got {what}. {_HINT}.")
    if n_bytes < MIN_BYTES:
        raise ValueError(
            f"corpus: data.path: expected {MIN_BYTES} bytes or more, got {n_bytes} in {(path or str(root))!r}. "
            f"{_HINT} that is longer."
        )
    text = b"".join(files.values())
    train, held_out = _split(files)
    return Corpus(
        train=np.frombuffer(train, np.uint8),
        held_out=np.frombuffer(held_out, np.uint8),
        vocabulary=bytes(sorted(set(train))),
        files=len(files),
        n_bytes=n_bytes,
        sha256=hashlib.sha256(text).hexdigest(),
        source=source,
    )


def _library_files(root: Path) -> dict[str, bytes]:
    """Read the standard library's own source: relative posix path -> bytes, in the order of the paths."""
    found: list[Path] = []
    for directory, below, names in os.walk(root):
        # Prune the walk instead of filtering its result: site-packages can be a hundred times larger than the library.
        below[:] = [d for d in below if d not in _SKIPPED and not d.startswith("config-")]
        found += [Path(directory, n) for n in names if n.endswith(".py") and not n.startswith(_MACHINE)]
    return _read_all(root, found)


def _user_files(root: Path, path: str) -> dict[str, bytes]:
    """Read the text file `root`, or all text files in it: relative posix path -> bytes, in the order of the paths."""
    if not root.is_dir():
        data = _read(root)
        if data is None:
            raise ValueError(
                f"corpus: data.path: expected UTF-8 text, got {path!r}, which is not. "
                "Type iconv -f latin1 -t utf-8 OLD > NEW.txt (or its true encoding), then data.path=NEW.txt."
            )
        return {root.name: data} if data else {}
    found: list[Path] = []
    for directory, below, names in os.walk(root):
        below[:] = [
            d
            for d in below
            if not d.startswith(".") and d != "__pycache__" and not Path(directory, d, "pyvenv.cfg").exists()
        ]
        found += [Path(directory, n) for n in names if not n.startswith(".")]
    return _read_all(root, found)


def _read_all(root: Path, found: list[Path]) -> dict[str, bytes]:
    """Read the text files of `found` under `root`: relative posix path -> bytes, in the order of the paths."""
    # Sort strings: Path sorts differently on Windows, and the order of the file system is arbitrary.
    named = sorted((p.relative_to(root).as_posix(), p) for p in found if p.is_file())
    texts = {name: _read(file) for name, file in named}
    return {name: data for name, data in texts.items() if data}


def _read(file: Path) -> bytes | None:
    """Read the bytes of a text file. Returns None if it is not UTF-8 or, as in git, has a zero byte near its start."""
    try:
        with file.open("rb") as stream:
            start = stream.read(8192)
            if b"\0" in start:  # checked before a model file of gigabytes is read whole
                return None
            data = start + stream.read()
    except OSError as error:
        raise ValueError(f"corpus: data.path: cannot read {str(file)!r}: {error.strerror}. {_HINT}.") from error
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return data


def _split(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Return (train, held out), as `load` describes."""
    room = int(HELD_OUT * sum(map(len, files.values())))
    chosen: set[str] = set()
    held = 0
    for name in sorted(files, key=lambda n: hashlib.sha256(n.encode("utf-8", "surrogateescape")).digest()):
        if held + len(files[name]) <= room:
            chosen.add(name)
            held += len(files[name])
    if 2 * held >= room:
        train = b"".join(data for name, data in files.items() if name not in chosen)
        return train, b"".join(data for name, data in files.items() if name in chosen)
    text = b"".join(files.values())
    cut = len(text) - room
    line = text.find(b"\n", cut, cut + room // 5) + 1  # 0 if the lines are long
    while not line and text[cut] & 0xC0 == 0x80:  # else the cut would fall inside a UTF-8 character
        cut += 1
    return text[: line or cut], text[line or cut :]
