"""The options of commands that take passwords.

They are apart from `devnest.cli.options`, because what they import is slow to load.
"""

from pathlib import Path
from typing import Annotated

import typer

from devnest.cli.options import ACCOUNTS, PROCESSES
from devnest.passwords import MAX_COST, MIN_COST, BreachedFile, Scheme

__all__ = ["BreachedList", "HashCost", "HashScheme", "PasswordMinLength"]


def _breached(value: Path | None) -> Path | None:
    if value is not None:
        try:
            BreachedFile(value)
        except ValueError as error:
            raise typer.BadParameter(f"{value}: {error}") from None
    return value


HashCost = Annotated[
    int,
    typer.Option(
        rich_help_panel=PROCESSES,
        envvar="DEVNEST_HASH_COST",
        min=MIN_COST,
        max=MAX_COST,
        help="The bcrypt cost of new passwords. One more doubles the time of a hash.",
    ),
]
HashScheme = Annotated[
    Scheme,
    typer.Option(
        rich_help_panel=PROCESSES,
        envvar="DEVNEST_HASH_SCHEME",
        help="How new passwords are hashed. Stored hashes of both schemes stay valid; a sign-in "
        "replaces a hash that is weaker than this setting.",
    ),
]
PasswordMinLength = Annotated[
    int,
    typer.Option(
        rich_help_panel=ACCOUNTS,
        envvar="DEVNEST_PASSWORD_MIN_LENGTH",
        min=8,
        max=64,
        help="The least number of characters of a new password. NIST SP 800-63B requires 15 "
        "where a password is the only factor.",
    ),
]
BreachedList = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=ACCOUNTS,
        envvar="DEVNEST_BREACHED_PASSWORDS",
        callback=_breached,
        exists=True,
        dir_okay=False,
        readable=True,
        help="A sorted file of SHA-1 hashes in the format of Have I Been Pwned. New passwords "
        "that are in it are refused.",
        show_default="none",
    ),
]
