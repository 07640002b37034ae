"""`--append`: keeps what a program has printed as a dated record in `docs/benchmarks/`.

A program makes its parser by `parser`, and runs its main function by `run`.
"""

import argparse
import contextlib
import io
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from devnest.load.result import Machine

DIRECTORY = Path(__file__).parents[1] / "docs" / "benchmarks"
MAX_SLUG_CHARS = 40  # of a CPU's name in a file's name


class _Copier(io.TextIOBase):
    """Writes to a stream and keeps a copy."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.copy = io.StringIO()

    def write(self, text: str, /) -> int:
        self.copy.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False  # or control characters for a terminal would be in the copy


def parser(description: str | None, **options: Any) -> argparse.ArgumentParser:
    """Return a parser of a program's options, with `--append`.

    Args:
        description: What the program does.
        **options: Further options of `argparse.ArgumentParser`.
    """
    made = argparse.ArgumentParser(description=description, **options)
    made.add_argument(
        "--append",
        nargs="?",
        type=Path,
        const=DIRECTORY,
        metavar="DIRECTORY",
        help="append what is printed to DATE-CPU.md in this directory (docs/benchmarks)",
    )
    return made


def run(main: Callable[[], None]) -> None:
    """Run a program; with `--append`, append what it has printed, unless it fails.

    Exit status 1 says that a target was missed, which is a result too.

    Args:
        main: The program, which parses its options by `parser`.
    """
    directory, arguments = _split(sys.argv[1:])
    if directory is None:
        main()
        return
    machine = Machine.here()
    page = directory / f"{datetime.now(UTC):%Y-%m-%d}-{_slug(machine.processor)}.md"
    try:  # now, and not after a measurement of minutes
        with page.open("a"):
            pass
    except OSError as error:
        sys.exit(f"cannot append to {page.name}: {error.strerror}")
    is_new = not page.stat().st_size
    output = _Copier(sys.stdout)
    status = None
    try:
        with contextlib.redirect_stdout(output):
            main()
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (None, 0, 1)):
            if is_new:
                page.unlink()
            raise
        status = error.code
    text = (_title(page, machine) if is_new else "") + _section(arguments, output.copy.getvalue())
    with page.open("a") as file:
        file.write(text)
    sys.exit(status)


def _split(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the directory of `--append`, if it is given, and the other arguments."""
    only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    only.add_argument("--append", nargs="?", type=Path, const=DIRECTORY)
    found, others = only.parse_known_args(arguments)
    return found.append, others


def _slug(processor: str) -> str:
    """Return a CPU's name as a part of a file's name: `amd-epyc-9b45`."""
    name = re.sub(r"\((R|TM)\)|CPU.*|\d+-Core.*|Processor.*", "", processor, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_SLUG_CHARS] or "unknown"


def _title(page: Path, machine: Machine) -> str:
    date = page.name[:10]
    return (
        f"# {date}, {machine.processor}\n\n"
        f"{machine.cores} CPUs, {machine.system}, Python {machine.python}.\n"
    )


def _section(arguments: Sequence[str], output: str) -> str:
    # A path of this machine says nothing to others.
    shown = [Path(each).name if each.startswith("/") else each for each in arguments]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])
    return f"\n## `{command}`\n```text\n{output.rstrip()}\n```\n"
