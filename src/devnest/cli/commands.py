"""The commands of `devnest`, each imported when it is used."""

import os
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from devnest import __version__
from devnest.cli.names import COMMANDS
from devnest.extras import MissingExtra, is_optional, pip_command

__all__ = ["app"]


class Commands(TyperGroup):
    """Imports the module of a command when it is used, so that no command waits for another's."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name, or None."""
        return _load(cmd_name) if cmd_name in COMMANDS else None


class NotInstalled(TyperCommand):
    """Stands for a command whose extra is missing: says how to install it, and refuses to run."""

    def __init__(self, name: str) -> None:
        how = pip_command(COMMANDS[name]).replace("[", r"\[")  # rich would read it as markup
        super().__init__(name, help=f"Not installed: {how}")

    def parse_args(self, ctx: Any, args: list[str]) -> NoReturn:
        """Raise `MissingExtra`."""
        raise MissingExtra(f"devnest {self.name}", COMMANDS[str(self.name)])


@cache
def _load(name: str) -> Any:
    try:
        found = getattr(import_module(f"devnest.cli.{name}"), name)
    except ModuleNotFoundError as error:
        if is_optional(error):
            return NotInstalled(name)
        raise
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
    """Decode a command's text arguments as UTF-8. Paths may have any bytes, so they stay."""

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
    """Decode as UTF-8 what Python has decoded by the locale, with lone surrogates for the rest."""
    try:
        return os.fsencode(value).decode() if not value.isprintable() else value
    except UnicodeError:
        raise typer.BadParameter(f"{name} is no text in UTF-8: {value!a}") from None


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"DevNest {__version__}")
        raise typer.Exit


@app.callback()
def devnest(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """DevNest: a developers' community backend that stays fast while it hashes passwords."""
