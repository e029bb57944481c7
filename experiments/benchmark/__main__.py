"""Time jlstm and its peers: `python -m experiments.benchmark --only shapes --shapes 32,100,64,128`.

Exit codes: 0 done; 1 done, but a contender was refused; 2 the command is wrong; 130 Ctrl-C (finished work is saved).
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    from experiments import config, run
    from experiments.benchmark import contenders, environment, output, promises, sections
    from experiments.benchmark.plan import Plan, Shape
    from experiments.benchmark.results import Result
except ModuleNotFoundError as missing:
    if missing.name in ("experiments", "jlstm"):
        raise
    sys.exit(f'experiments: {missing.name} is not installed. Type pip install -e ".[benchmark]"')

import jax

from experiments import device

SECTIONS: dict[str, Callable[[Plan], Result]] = {
    "shapes": sections.shapes,
    "compile": sections.compile_time,
    "bidirectional": sections.bidirectional,
    "stack": sections.stack,
    "step": sections.step,
    "deepbench": sections.deepbench,
    "vmap-parameters": promises.vmap_parameters,
    "vmap-examples": promises.vmap_examples,
    "length": promises.length,
    "checkpoint": promises.checkpoint,
    "retrace": promises.retrace,
}
SHAPES = ("32,100,64,128", "32,50,256,256", "64,25,512,512", "1,200,64,128", "128,50,28,64")
NAMES = tuple(contender.name for contender in contenders.CONTENDERS)


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return the type of an option that takes NAME[,NAME]."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {name!r}{hint}")
        return tuple(name for name in known if name in names)

    return parse


def shape(text: str) -> Shape:
    """Parse the value of --shapes."""
    try:
        B, T, D, H = (int(size) for size in text.split(","))
    except ValueError:
        B = T = D = H = 0
    if min(B, T, D, H) < 1:
        raise argparse.ArgumentTypeError(f"expected B,T,D,H as {SHAPES[0]}, got {text!r}")
    return B, T, D, H


def rounds(text: str) -> int:
    """Parse the value of --rounds."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected an integer >= 2, got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parse = run.Parser(
        prog="python -m experiments.benchmark",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parse.add_argument
    add("--only", type=some_of(tuple(SECTIONS)), metavar="NAME[,NAME]", default=tuple(SECTIONS),
        help=f"the sections: {', '.join(SECTIONS)}; default: all")  # fmt: skip
    add("--shapes", type=shape, nargs="+", metavar="B,T,D,H", default=[shape(text) for text in SHAPES],
        help=f"default: {' '.join(SHAPES)}; compile, bidirectional, stack and vmap-examples take "
        "the first")  # fmt: skip
    add("--contenders", type=some_of(NAMES), metavar="NAME[,NAME]", default=NAMES,
        help=f"of {', '.join(NAMES)}; default: all; jlstm always runs, since the others are "
        "compared to it")  # fmt: skip
    add("--device", choices=("cpu", "gpu", "tpu"), help="default: jax's own choice")
    add("--rounds", type=rounds, default=31, help="number of rounds for the medians; default: 31")
    add("--dtype", choices=tuple(contenders.TOLERANCE), default="float32", help="of parameters and inputs, float32")
    add("--out", type=Path, help="directory of the files; default: runs/benchmark/<device>")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser().parse_args(argv)
        choose(args.device)
        folder = make(args.out or Path("runs", "benchmark", jax.default_backend()))
    except config.UsageError as error:
        print(*error.args, sep="\n", file=sys.stderr)
        return 2
    return measure(args, folder, shlex.join(["python", "-m", "experiments.benchmark", *argv]))


def choose(wanted: str | None) -> None:
    """Select the device of jax. Raises UsageError if jax does not have it."""
    if wanted == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if wanted and jax.default_backend() != wanted:
        found = jax.default_backend()
        raise config.UsageError(f"{config.COMMAND_LINE}: --device: expected {found}, all this jax has, got {wanted}.")


def make(folder: Path) -> Path:
    """Make the directory of the files, before any measurement. Raises UsageError if this fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise config.UsageError(
            f"{config.COMMAND_LINE}: --out: expected a directory, got {str(folder)!r}: {error.strerror}."
        ) from None
    return folder


def say(line: str) -> None:
    """Print a line to stderr; the result goes to stdout."""
    print(f"benchmark: {line}", file=sys.stderr, flush=True)


def measure(args: argparse.Namespace, folder: Path, command: str) -> int:
    """Run the sections in `args`, write the files, and return the exit code."""
    if warning := device.warning():
        say(f"warning: {warning}")
    asked = [c for c in contenders.CONTENDERS if c.name in args.contenders or c is contenders.CONTENDERS[0]]
    reasons = {c.name: contenders.missing(c) for c in asked}
    left_out = [reason for reason in reasons.values() if reason]
    for reason in left_out:
        say(reason)
    present = tuple(c for c in asked if not reasons[c.name])
    plan = Plan(tuple(args.shapes), present, args.rounds, args.dtype, say)
    distributions = [c.install.partition("==")[0] for c in present if c.install]
    about: dict[str, Any] = {"command": command, **environment.environment(distributions)}
    about |= {"rounds": plan.rounds, "dtype": plan.dtype, "left_out": left_out, "refused": plan.refused}
    results: dict[str, Result] = {}
    code = 0
    try:
        for name in args.only:
            results[name] = SECTIONS[name](plan)
    except KeyboardInterrupt:
        code = 130
    print(output.write(folder, results, about, tuple(SECTIONS)))
    say(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    return code or (1 if plan.refused else 0)


if __name__ == "__main__":
    sys.exit(main())
