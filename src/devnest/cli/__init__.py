"""The `devnest` command: it alone reads options and the environment."""

import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from devnest import __version__

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
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"devnest.cli.{cmd_name}"), cmd_name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command(cmd_name)(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


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
    _leave_relative_paths()
    sys.exit(app())


def _leave_relative_paths() -> None:
    """Import from no place that depends on the working directory: whoever may write there would run code as this user.

    An empty entry is the working directory of the moment. In PYTHONPATH, where `PYTHONPATH=$PYTHONPATH:/more` makes
    one, it was made absolute when Python started.
    """
    given = os.environ.get("PYTHONPATH", "")
    unwanted = {entry for entry in given.split(os.pathsep) if given and not Path(entry).is_absolute()}
    if unwanted and not sys.flags.ignore_environment:
        os.environ["PYTHONPATH"] = os.pathsep.join(e for e in given.split(os.pathsep) if e not in unwanted)
        with suppress(FileNotFoundError):  # there is no working directory any more, so no entry is in it
            unwanted = {os.path.abspath(entry) for entry in unwanted}  # noqa: PTH100 (Path("") is ".")
    sys.path[:] = [entry for entry in sys.path if Path(entry).is_absolute() and entry not in unwanted]
