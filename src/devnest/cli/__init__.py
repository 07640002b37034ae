"""The `devnest` command, the only part of DevNest that reads options and the environment.

This module imports nothing outside the standard library at its top level, so that a command whose
extra is missing can say so.
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
    f"{pip_command('server')} to serve, {pip_command('load')} for load tests, "
    f"{pip_command('all')} for both"
)


def main() -> None:
    """Run the command line, and end with its exit status."""
    output = open_standard_streams()
    os.umask(os.umask(0o077) & 0o077)  # keep the owner's rights to the files that we make
    _leave_relative_paths()
    # `serve` logs it, and `calibrate` prints it.
    warnings.filterwarnings("ignore", "the bcrypt kernel", RuntimeWarning)
    try:
        _run()
    except SystemExit as end:
        sys.stdout.flush()
        # EPIPE is no failure: the reader, such as `| head`, has stopped reading.
        if output.error is not None and output.error.errno != EPIPE and not end.code:
            sys.stderr.write(f"devnest: the output could not be written: {output.error.strerror}\n")
            sys.exit(1)
        raise
    except (OSError, MemoryError) as error:  # raised anywhere, even by an import
        if not is_transient(error):
            raise
        _refuse(getattr(error, "strerror", None) or "there is no memory left", TRANSIENT_STATUS)


def _run() -> None:
    """Run the command, or say which extra it lacks."""
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
    """Remove the paths that depend on the working directory from those that Python imports from.

    Else whoever can write to the working directory could run code as this user. An empty entry
    means the working directory; `PYTHONPATH=$PYTHONPATH:/more` adds one if PYTHONPATH was empty.
    Python makes the entries of PYTHONPATH absolute when it starts, so `sys.path` alone does not
    show which of them were relative.
    """
    given = os.environ.get("PYTHONPATH", "")
    unwanted = {
        entry for entry in given.split(os.pathsep) if given and not Path(entry).is_absolute()
    }
    if unwanted and not sys.flags.ignore_environment:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            e for e in given.split(os.pathsep) if e not in unwanted
        )
        with suppress(FileNotFoundError):  # the working directory was removed, so nothing is in it
            # `Path.resolve` would follow symbolic links too.
            unwanted = {os.path.abspath(entry) for entry in unwanted}  # noqa: PTH100
    sys.path[:] = [
        entry for entry in sys.path if Path(entry).is_absolute() and entry not in unwanted
    ]
