"""Options of the commands that hash passwords; apart from the others', for what they import takes a while to load."""

from typing import Annotated

import typer

from devnest.passwords import MAXIMUM_COST, MINIMUM_COST, Scheme

__all__ = ["HashCost", "HashScheme"]

HashCost = Annotated[
    int,
    typer.Option(envvar="DEVNEST_HASH_COST", min=MINIMUM_COST, max=MAXIMUM_COST, help="bcrypt cost of new passwords."),
]
HashScheme = Annotated[
    Scheme,
    typer.Option(
        envvar="DEVNEST_HASH_SCHEME",
        help="How new passwords are hashed. Stored hashes of both schemes work; a sign-in replaces what is below this.",
    ),
]
