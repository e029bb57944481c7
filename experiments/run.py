"""Train one config: `python -m experiments.run configs/adding.toml train.seed=1`.

Exit codes: 0 done, 1 the directory cannot be written to, 2 the command, the config or the data is wrong, 3 the loss is
no longer a number, 130 Ctrl-C, 138 SIGUSR1, 143 SIGTERM. After a signal the run is saved; --resume continues it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    # Until a run saves on signals, Ctrl-C ends the process. The imports below may swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    from experiments import config, report
except ModuleNotFoundError as missing:
    if missing.name in ("experiments", "jlstm"):
        raise
    sys.exit(f'experiments: {missing.name} is not installed. Type pip install -e ".[experiments]"')

CONFIGS = Path(__file__).parent.parent / "configs"


class Parser(argparse.ArgumentParser):
    """A parser that prints one line for a wrong option instead of the usage."""

    def error(self, message: str) -> NoReturn:
        raise config.UsageError(f"{config.COMMAND_LINE}: {message}. Type {self.prog} --help.")


def parser() -> Parser:
    """Return the parser of the command line."""
    parse = Parser(prog="python -m experiments.run", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parse.add_argument("config", nargs="?", help="a TOML file, such as configs/adding.toml; --list shows them")
    parse.add_argument("overrides", nargs="*", metavar="table.key=value", help="such as train.steps=100; a TOML value")
    existing = parse.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the existing run, if any")
    existing.add_argument("--overwrite", action="store_true", help="replace the existing run, if any")
    parse.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    parse.add_argument("--dry-run", action="store_true", help="print shapes and the parameter count and stop")
    parse.add_argument("--list", action="store_true", help="print the configs and stop")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code."""
    try:
        return _run(parser().parse_intermixed_args(argv))
    except config.UsageError as error:
        print(*error.args, sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there is anything to save
        return 130


def _run(args: argparse.Namespace) -> int:
    if args.list:
        for file in sorted(CONFIGS.rglob("*.toml")):
            first = file.read_text(encoding="utf-8").partition("\n")[0]
            print(f"{file.relative_to(CONFIGS.parent).as_posix()}: {first.removeprefix('#').strip()}")
        return 0
    if args.config is None:
        raise config.UsageError("command line: expected a config. Type python -m experiments.run configs/adding.toml.")
    request = config.load(args.config, args.overrides)
    if args.print_config:
        print(request.config.toml(), end="")
        return 0
    # The commands above do not need jax, which takes a second to import.
    from experiments import job

    to = report.console()
    if args.dry_run:
        return job.dry_run(request.config, to)
    return job.run(request, to, resume=args.resume, overwrite=args.overwrite)


if __name__ == "__main__":
    sys.exit(main())
