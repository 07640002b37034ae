"""The `devnest` command: it alone reads options and the environment."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from errno import EPIPE
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from devnest import __version__
from devnest.streams import open_standard_streams

__all__ = ["app", "main"]

# Each the name of a module here and of the function, or group of them, in it.
COMMANDS = ("serve", "migrate", "calibrate", "user", "keys", "load", "bench")


class Commands(TyperGroup):
    """Loads a command's module when that command is asked for: what `serve` waits for at its start is `serve` alone."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        return _load(cmd_name) if cmd_name in COMMANDS else None


@cache
def _load(name: str) -> Any:
    found = getattr(import_module(f"devnest.cli.{name}"), name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    for info in found.registered_commands:
        assert info.callback is not None
        info.callback = _with_text(info.callback)
    command = typer.main.get_command(found)
    command.name = name
    return command


def _with_text(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its arguments as text, where they are; paths may be of any bytes."""

    @wraps(command)
    def run(**given: Any) -> None:
        command(
            **{
                name: _text(name, value) if type(value) is str else value
                for name, value in given.items()
            }
        )

    return run


def _text(name: str, value: str) -> str:
    """What was typed. Python reads it by the locale, and keeps bytes that this does not know as half characters."""
    try:
        return os.fsencode(value).decode() if not value.isprintable() else value
    except UnicodeError:
        raise typer.BadParameter(f"{name} is no text in UTF-8: {value!a}") from None


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"DevNest {__version__}")
        raise typer.Exit


@app.callback()
def devnest(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which and end.")
    ] = False,
) -> None:
    """DevNest: a developers' community backend that stays fast while it hashes passwords."""


def main() -> None:
    """The entry point."""
    output = open_standard_streams()
    _leave_relative_paths()
    try:
        app()
    except SystemExit as end:
        sys.stdout.flush()
        if (
            output.error is not None and output.error.errno != EPIPE and not end.code
        ):  # EPIPE: `| head` has seen enough
            sys.stderr.write(f"devnest: the output could not be written: {output.error.strerror}\n")
            sys.exit(1)
        raise


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
