"""`devnest serve`."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from devnest.addresses import MAX_PORT, host_and_port, trusted_network
from devnest.bcrypt.backend import PROBLEM, REMEDY
from devnest.cli.errors import reported
from devnest.cli.hashing_options import BreachedList, HashCost, HashScheme, PasswordMinLength
from devnest.cli.options import DatabaseUrl, DataDir, PostgresBin, origins, sender, smtp_server
from devnest.cluster.serve import serve as run
from devnest.logs import configure_logging
from devnest.passwords import Scheme
from devnest.pool import usable_cpus
from devnest.settings import HASH_NICE, Hashing, Settings
from devnest.store import default_data_dir
from devnest.streams import move_to_background

__all__ = ["serve"]

NO_OPTION = {"DEVNEST_LANES"}  # read where bcrypt is loaded
DEFAULT_PORT = 8000
# Kubernetes sets DEVNEST_PORT=tcp://10.0.0.1:8000 for a service called `devnest`, and more; so does Docker for a link.
LINK = re.compile(r"(?:tcp|udp|sctp)://\S+")
OF_A_LINK = re.compile(
    r"DEVNEST_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR))"
)
log = structlog.get_logger("devnest.cli")


class LogLevel(StrEnum):
    """The least important lines to write."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _networks(value: str) -> str:
    try:
        return ",".join(trusted_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _port(value: object) -> int:
    """A port; that of `--port` left out where the environment has a service link in its place."""
    text = str(value)
    if text == os.environ.get("DEVNEST_PORT") and LINK.fullmatch(text):
        return DEFAULT_PORT
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise typer.BadParameter(f"{text!r} is no port; one is a number from 0 to {MAX_PORT}")
    return int(text)


def _address(value: str | None) -> str | None:
    if value is not None:
        try:
            host_and_port(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return value


def _warn_of_misspelt_variables(context: typer.Context) -> None:
    known = NO_OPTION | {option.envvar for option in context.command.params}
    for name in sorted(name for name in os.environ if name.startswith("DEVNEST_")):
        value = os.environ[name]
        if name == "DEVNEST_PORT" and LINK.fullmatch(value):
            log.warning(
                "a service link is no port: ignored; enableServiceLinks: false leaves it out",
                variable=name,
            )
        elif name not in known and not LINK.fullmatch(value) and not OF_A_LINK.fullmatch(name):
            log.warning("no option has this variable", variable=name)


def _warn_of_idle_options(
    context: typer.Context, hashing: Hashing, database_url: str | None
) -> None:
    idle = {
        "--hash-nice": "no pool" if hashing is not Hashing.POOL else None,
        "--hash-workers": "hashing on the event loop" if hashing is Hashing.INLINE else None,
        "--postgres-bin": "a database URL is given" if database_url is not None else None,
    }
    for option, reason in idle.items():
        source = context.get_parameter_source(option[2:].replace("-", "_"))
        if reason and source is not None and source.name != "DEFAULT":
            log.warning("option without effect", option=option, reason=reason)


def serve(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            envvar="DEVNEST_HOST", help="Address to listen on, or a name: at all its addresses."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            envvar="DEVNEST_PORT",
            parser=_port,
            metavar="PORT",
            help="Port to listen on; 0 takes a free one.",
        ),
    ] = DEFAULT_PORT,
    management: Annotated[
        str | None,
        typer.Option(
            envvar="DEVNEST_MANAGEMENT",
            callback=_address,
            metavar="HOST:PORT",
            help="Listen there too, for /metrics, /readyz and /healthz; the first two are then not on the public port.",
            show_default="all on the public port",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            envvar="DEVNEST_PROCESSES", min=1, max=64, help="Server processes.", show_default="CPUs"
        ),
    ] = None,
    hashing: Annotated[
        Hashing,
        typer.Option(
            envvar="DEVNEST_HASHING",
            help="Where passwords are hashed: in the pool that all servers share, on threads of each, or on the event "
            "loop of each.",
        ),
    ] = Hashing.POOL,
    hash_scheme: HashScheme = Scheme.BCRYPT,
    hash_cost: HashCost = 12,
    hash_workers: Annotated[
        int | None,
        typer.Option(
            envvar="DEVNEST_HASH_WORKERS",
            min=1,
            max=256,
            help="Processes of the pool, or threads of each server.",
            show_default="CPUs",
        ),
    ] = None,
    hash_nice: Annotated[
        int,
        typer.Option(
            envvar="DEVNEST_HASH_NICE", min=0, max=19, help="How far the pool's workers stand back."
        ),
    ] = HASH_NICE,
    trusted_proxies: Annotated[
        str,
        typer.Option(
            envvar="DEVNEST_TRUSTED_PROXIES",
            callback=_networks,
            help="Addresses or networks, with commas between, whose X-Forwarded-For is believed.",
        ),
    ] = "",
    cors_origins: Annotated[
        str,
        typer.Option(
            envvar="DEVNEST_CORS_ORIGINS",
            callback=origins,
            help="Sites whose pages may call the API: https://app.example.org, with commas between, or * for all.",
            show_default="none",
        ),
    ] = "",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
    signing_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="DEVNEST_SIGNING_KEY_FILE",
            help="The key of access tokens: a file of 32 bytes or more, or a copy of a DevNest's signing-keys.json.",
            show_default="made in the data directory",
        ),
    ] = None,
    drain_timeout: Annotated[
        float,
        typer.Option(
            envvar="DEVNEST_DRAIN_TIMEOUT",
            min=0,
            max=3600,
            help="Seconds that running requests get at a stop.",
        ),
    ] = 10.0,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits/--no-limits",
            envvar="DEVNEST_LIMITS",
            help="Slow down who fails often. Off is for load tests: it lets passwords be guessed.",
        ),
    ] = True,
    password_min_length: PasswordMinLength = 8,
    breached_passwords: BreachedList = None,
    smtp_url: Annotated[
        str | None,
        typer.Option(
            envvar="DEVNEST_SMTP_URL",
            callback=smtp_server,
            help="The mail server: smtps://user:password@host, smtp+starttls://…, or smtp:// without TLS.",
            show_default="mail goes into the file mail.mbox of the data directory",
        ),
    ] = None,
    mail_from: Annotated[
        str, typer.Option(envvar="DEVNEST_MAIL_FROM", callback=sender, help="The sender of mail.")
    ] = "devnest@localhost",
    log_level: Annotated[
        LogLevel, typer.Option(envvar="DEVNEST_LOG_LEVEL", help="Least level to log.")
    ] = LogLevel.INFO,
) -> None:
    """Serve the API until TERM or INT.

    Exit status: 0 clean stop, 1 a process cannot start, 2 wrong option, 3 the address cannot be listened on, 4 the data
    directory, the signing keys or PostgreSQL's programs cannot be used, 5 the database does not answer or start, 6 its
    schema or encoding is not one that this version works on. After 2 and 4 trying again does not help.
    """
    move_to_background()
    configure_logging(log_level)
    _warn_of_misspelt_variables(context)
    _warn_of_idle_options(context, hashing, database_url)
    if PROBLEM:
        log.warning("passwords are hashed one at a time", reason=PROBLEM, remedy=REMEDY)
    with reported():
        directory = data_dir or default_data_dir()
    settings = Settings(
        host=host,
        port=port,
        management=host_and_port(management) if management is not None else None,
        processes=processes or usable_cpus(),
        data_dir=directory,
        hashing=hashing,
        hash_scheme=hash_scheme.value,
        hash_cost=hash_cost,
        hash_workers=hash_workers or usable_cpus(),
        hash_nice=hash_nice,
        trusted_proxies=[part for part in trusted_proxies.split(",") if part],
        cors_origins=[part for part in cors_origins.split(",") if part],
        log_level=log_level,
        database_url=database_url,
        postgres_bin=postgres_bin,
        signing_key_file=signing_key_file,
        drain_timeout_s=drain_timeout,
        limits=limits,
        password_min_length=password_min_length,
        breached_passwords=breached_passwords,
        smtp_url=smtp_url,
        mail_from=mail_from,
    )
    with reported():
        run(settings)
