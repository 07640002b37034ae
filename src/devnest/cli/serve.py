"""`devnest serve`: reads its options, and starts the processes."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from devnest.addresses import MAX_PORT, host_and_port, trusted_network
from devnest.bcrypt import LANES
from devnest.bcrypt.backend import PROBLEM, REMEDY
from devnest.cli.errors import reported
from devnest.cli.hashing_options import BreachedList, HashCost, HashScheme, PasswordMinLength
from devnest.cli.options import (
    ACCOUNTS,
    DATA,
    PROCESSES,
    DatabaseUrl,
    DataDir,
    PostgresBin,
    collector,
    origins,
    sender,
    smtp_server,
)
from devnest.cluster.serve import serve as run
from devnest.logs import configure_logging
from devnest.passwords import Scheme
from devnest.pool import usable_cpus
from devnest.settings import HASH_NICE, Hashing, Settings
from devnest.store import default_data_dir
from devnest.streams import move_to_background

__all__ = ["serve"]

# Read by `devnest.bcrypt` itself, in every process.
OTHER_VARIABLES = {"DEVNEST_LANES"}
DEFAULT_PORT = 8000
# The groups of options in the help, with those of `devnest.cli.options`.
_LISTENING, _LOG = "Listening", "Log and traces"
# Kubernetes sets DEVNEST_PORT=tcp://10.0.0.1:8000 and other variables for a service that is called
# `devnest`; Docker does the same for a link.
LINK = re.compile(r"(?:tcp|udp|sctp)://\S+")
LINK_NAME = re.compile(
    r"DEVNEST_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR))"
)
log = structlog.get_logger("devnest.cli")


class LogLevel(StrEnum):
    """The lowest level of the lines that are logged."""

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
    """Parse a port. A service link in DEVNEST_PORT counts as if the variable were not set."""
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
    known = OTHER_VARIABLES | {option.envvar for option in context.command.params}
    for name in sorted(name for name in os.environ if name.startswith("DEVNEST_")):
        value = os.environ[name]
        if name == "DEVNEST_PORT" and LINK.fullmatch(value):
            log.warning(
                "a service link is no port: ignored; enableServiceLinks: false leaves it out",
                variable=name,
            )
        elif name not in known and not LINK.fullmatch(value) and not LINK_NAME.fullmatch(name):
            log.warning("no option has this variable", variable=name)


def _warn_of_idle_options(
    context: typer.Context,
    hashing: Hashing,
    database_url: str | None,
    otlp_endpoint: str | None,
) -> None:
    idle = {
        "--hash-nice": "no pool" if hashing is not Hashing.POOL else None,
        "--hash-workers": "hashing on the event loop" if hashing is Hashing.INLINE else None,
        "--postgres-bin": "a database URL is given" if database_url is not None else None,
        "--trace-sampling": "no --otlp-endpoint" if otlp_endpoint is None else None,
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
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_HOST",
            help="The address to listen on, or a name, for all of its addresses.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_PORT",
            parser=_port,
            metavar="PORT",
            help="The port to listen on; 0 takes a free one.",
        ),
    ] = DEFAULT_PORT,
    management: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_MANAGEMENT",
            callback=_address,
            metavar="HOST:PORT",
            help="A second address, which serves /metrics, /readyz and /healthz. The first two "
            "are then not served on the public port.",
            show_default="none",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=PROCESSES,
            envvar="DEVNEST_PROCESSES",
            min=1,
            max=64,
            help="Number of server processes.",
            show_default="the number of CPUs",
        ),
    ] = None,
    hashing: Annotated[
        Hashing,
        typer.Option(
            rich_help_panel=PROCESSES,
            envvar="DEVNEST_HASHING",
            help="Where passwords are hashed. pool: in processes that all servers share. thread: "
            "on threads of each server. inline: on the event loop of each server, which "
            "blocks it.",
        ),
    ] = Hashing.POOL,
    hash_scheme: HashScheme = Scheme.BCRYPT,
    hash_cost: HashCost = 12,
    hash_workers: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=PROCESSES,
            envvar="DEVNEST_HASH_WORKERS",
            min=1,
            max=256,
            help="Number of worker processes of the pool, or of threads of each server.",
            show_default="the number of CPUs",
        ),
    ] = None,
    hash_nice: Annotated[
        int,
        typer.Option(
            rich_help_panel=PROCESSES,
            envvar="DEVNEST_HASH_NICE",
            min=0,
            max=19,
            help="The nice value of the pool's workers. Higher leaves more CPU time to other "
            "requests.",
        ),
    ] = HASH_NICE,
    trusted_proxies: Annotated[
        str,
        typer.Option(
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_TRUSTED_PROXIES",
            callback=_networks,
            help="Proxies whose X-Forwarded-For is believed: addresses or networks, separated by "
            "commas.",
        ),
    ] = "",
    cors_origins: Annotated[
        str,
        typer.Option(
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_CORS_ORIGINS",
            callback=origins,
            help="Origins whose pages may call the API, such as https://app.example.org, "
            "separated by commas; * allows all.",
            show_default="none",
        ),
    ] = "",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    postgres_bin: PostgresBin = None,
    signing_key_file: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=DATA,
            envvar="DEVNEST_SIGNING_KEY_FILE",
            help="The keys that sign access tokens: a file of 32 bytes or more, or a copy of "
            "another DevNest's signing-keys.json.",
            show_default="signing-keys.json in the data directory, made if missing",
        ),
    ] = None,
    drain_timeout: Annotated[
        float,
        typer.Option(
            rich_help_panel=_LISTENING,
            envvar="DEVNEST_DRAIN_TIMEOUT",
            min=0,
            max=3600,
            help="Seconds that requests in progress have to finish when DevNest stops.",
        ),
    ] = 10.0,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits/--no-limits",
            rich_help_panel=ACCOUNTS,
            envvar="DEVNEST_LIMITS",
            help="Throttle clients that fail often. Turn it off for load tests only: passwords "
            "could be guessed.",
        ),
    ] = True,
    password_min_length: PasswordMinLength = 8,
    breached_passwords: BreachedList = None,
    smtp_url: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=ACCOUNTS,
            envvar="DEVNEST_SMTP_URL",
            callback=smtp_server,
            help="The mail server: smtps://user:password@host or smtp+starttls://… with TLS, "
            "smtp://host without.",
            show_default="mail is appended to mail.mbox in the data directory",
        ),
    ] = None,
    mail_from: Annotated[
        str,
        typer.Option(
            rich_help_panel=ACCOUNTS,
            envvar="DEVNEST_MAIL_FROM",
            callback=sender,
            help="The address that mail comes from.",
        ),
    ] = "devnest@localhost",
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LOG,
            envvar="DEVNEST_OTLP_ENDPOINT",
            callback=collector,
            metavar="URL",
            help="The OpenTelemetry collector that gets traces by OTLP over HTTP, such as "
            "http://localhost:4318. Needs the extra otel.",
            show_default="no traces",
        ),
    ] = None,
    trace_sampling: Annotated[
        float,
        typer.Option(
            rich_help_panel=_LOG,
            envvar="DEVNEST_TRACE_SAMPLING",
            min=0,
            max=1,
            help="The share of requests that are traced. Where a traceparent header says whether "
            "its sender records the trace, that counts.",
        ),
    ] = 0.1,
    log_level: Annotated[
        LogLevel,
        typer.Option(
            rich_help_panel=_LOG, envvar="DEVNEST_LOG_LEVEL", help="The lowest level to log."
        ),
    ] = LogLevel.INFO,
) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Exit status: 0 clean stop, 1 a process cannot start, 2 wrong option, 3 the address cannot be
    listened on, 4 the data directory, the signing keys or PostgreSQL's programs cannot be used,
    5 the database does not respond or start, 6 this version does not support the database's schema
    or encoding. After 2 and 4 another try fails too.
    """
    move_to_background()
    configure_logging(log_level)
    _warn_of_misspelt_variables(context)
    _warn_of_idle_options(context, hashing, database_url, otlp_endpoint)
    if not limits:
        log.warning(
            "limits are off: passwords can be guessed without a pause; for load tests only",
            option="--no-limits",
        )
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
        lanes=LANES,
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
        otlp_endpoint=otlp_endpoint,
        trace_sampling=trace_sampling,
    )
    with reported():
        run(settings)
