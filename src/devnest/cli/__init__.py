"""The `devnest` command: it alone reads options and the environment.

This module needs the standard library only, so that a command can say which extra it lacks.
"""

import os
import sys
import warnings
from contextlib import suppress
from errno import EPIPE
from pathlib import Path

from devnest.cli.names import COMMANDS
from devnest.exhaustion import TRANSIENT_STATUS, is_transient
from devnest.extras import MissingExtra, is_optional, pip_command
from devnest.streams import open_standard_streams

__all__ = ["main"]

NO_EXTRA = (
    "the devnest command needs an extra that is not installed: "
    f"{pip_command('server')} to serve, {pip_command('load')} for load tests, {pip_command('all')} for both"
)


def main() -> None:
    """The entry point."""
    output = open_standard_streams()
    os.umask(os.umask(0o077) & 0o077)  # a umask must not lock out the owner
    _leave_relative_paths()
    warnings.filterwarnings(
        "ignore", "the bcrypt kernel", RuntimeWarning
    )  # `serve` logs it, `calibrate` prints it
    try:
        _run()
    except SystemExit as end:
        sys.stdout.flush()
        if (
            output.error is not None and output.error.errno != EPIPE and not end.code
        ):  # EPIPE: `| head` has seen enough
            sys.stderr.write(f"devnest: the output could not be written: {output.error.strerror}\n")
            sys.exit(1)
        raise
    except (OSError, MemoryError) as error:  # raised anywhere, even by an import
        if not is_transient(error):
            raise
        _refuse(getattr(error, "strerror", None) or "there is no memory left", TRANSIENT_STATUS)


def _run() -> None:
    """Run the command that was asked for, or say which extra it lacks."""
    try:
        from devnest.cli.commands import app

        app()
    except MissingExtra as missing:
        _refuse(str(missing))
    except ModuleNotFoundError as error:
        if not is_optional(error):
            raise
        command = sys.argv[1] if len(sys.argv) > 1 else ""
        extra = COMMANDS.get(command)
        _refuse(str(MissingExtra(f"devnest {command}", extra)) if extra else NO_EXTRA)


def _refuse(reason: str, status: int = 2) -> None:
    sys.stderr.write(f"devnest: {reason}\n")
    sys.exit(status)


def _leave_relative_paths() -> None:
    """Import from no place that depends on the working directory: whoever may write there would run code as this user.

    An empty entry is the working directory of the moment. In PYTHONPATH, where `PYTHONPATH=$PYTHONPATH:/more` makes
    one, it was made absolute when Python started.
    """
    given = os.environ.get("PYTHONPATH", "")
    unwanted = {
        entry for entry in given.split(os.pathsep) if given and not Path(entry).is_absolute()
    }
    if unwanted and not sys.flags.ignore_environment:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            e for e in given.split(os.pathsep) if e not in unwanted
        )
        with suppress(
            FileNotFoundError
        ):  # there is no working directory any more, so no entry is in it
            unwanted = {os.path.abspath(entry) for entry in unwanted}  # noqa: PTH100 (Path("") is ".")
    sys.path[:] = [
        entry for entry in sys.path if Path(entry).is_absolute() and entry not in unwanted
    ]
