"""Options of the commands that take passwords; apart from the others', for what they import takes a while to load."""

from pathlib import Path
from typing import Annotated

import typer

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
        envvar="DEVNEST_HASH_COST", min=MIN_COST, max=MAX_COST, help="bcrypt cost of new passwords."
    ),
]
HashScheme = Annotated[
    Scheme,
    typer.Option(
        envvar="DEVNEST_HASH_SCHEME",
        help="How new passwords are hashed. Stored hashes of both schemes work; a sign-in replaces what is below this.",
    ),
]
PasswordMinLength = Annotated[
    int,
    typer.Option(
        envvar="DEVNEST_PASSWORD_MIN_LENGTH",
        min=8,
        max=64,
        help="Characters of a new password at least; NIST asks for 15 where a password is all that is asked for.",
    ),
]
BreachedList = Annotated[
    Path | None,
    typer.Option(
        envvar="DEVNEST_BREACHED_PASSWORDS",
        callback=_breached,
        exists=True,
        dir_okay=False,
        readable=True,
        help="A sorted file of SHA-1 hashes, as Have I Been Pwned gives it; new passwords in it are refused.",
        show_default="none",
    ),
]
