"""The URL of a PostgreSQL database, turned into arguments of the driver.

Each part is passed by itself, so the driver never parses the URL and cannot quote its password.
What the URL leaves out, the driver takes from PostgreSQL's usual variables (`PGPASSWORD`,
`PGSSLMODE`) and from `~/.pgpass`.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

import getpass
import os
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from devnest.urls import BadUrl, Host, Url, parse_url, port_number

__all__ = ["connection_options", "embedded_url"]

SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TARGET_SESSION_ATTRS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
DEFAULT_PORT = 5432
MAX_TIMEOUT_S = 3600  # for `connect_timeout`


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _is_tls_version(value: str) -> bool:
    return value.replace(".", "_") in ssl.TLSVersion.__members__ and not value.startswith("SSL")


# TLS options. The driver accepts them in a URL only, so it gets a URL with nothing else in it.
TLS: dict[str, Callable[[str], bool]] = {
    "sslmode": _one_of(*SSL_MODES),
    "sslnegotiation": _one_of("postgres", "direct"),
    "sslcert": bool,
    "sslkey": bool,
    "sslrootcert": bool,
    "sslcrl": bool,
    "sslpassword": bool,
    "ssl_min_protocol_version": _is_tls_version,
    "ssl_max_protocol_version": _is_tls_version,
}
# Options that are arguments of the driver under the same names.
ARGUMENTS: dict[str, Callable[[str], bool]] = {
    "user": bool,
    "password": bool,
    "passfile": bool,
    "target_session_attrs": _one_of(*TARGET_SESSION_ATTRS),
    "krbsrvname": bool,
    "gsslib": _one_of("gssapi", "sspi"),
}
SERVER_SETTINGS = ("application_name", "options", "search_path")
KNOWN = ("host", "port", "dbname", "connect_timeout", *ARGUMENTS, *TLS, *SERVER_SETTINGS)


def connection_options(url: str) -> dict[str, Any]:
    """Return the arguments of `asyncpg.connect` that a database URL stands for.

    Raises:
        BadUrl: It is not the URL of a PostgreSQL database, or has an unknown option or value. The
            message quotes nothing of it.
    """
    parsed = parse_url(url, SCHEMES)
    given = _merged_options(parsed)
    arguments: dict[str, Any] = {"user": _default_user()} if "user" not in given else {}
    arguments |= {name: given[name] for name in ARGUMENTS if name in given}
    arguments |= _addresses(parsed)
    if "dbname" in given:
        arguments["database"] = given["dbname"]
    if "connect_timeout" in given:
        arguments["timeout"] = _seconds(given["connect_timeout"])
    if tls := {name: given[name] for name in TLS if name in given}:
        arguments["dsn"] = f"postgresql://?{urlencode(tls, quote_via=quote)}"
    if settings := {name: given[name] for name in SERVER_SETTINGS if name in given}:
        arguments["server_settings"] = settings
    return arguments


def _merged_options(url: Url) -> dict[str, str]:
    """Return the checked options, with the URL's user, password and database among them."""
    given = dict(url.options)
    before = {
        "user": url.username,
        "password": url.password,
        "dbname": url.path.removeprefix("/") or None,
    }
    for name, value in before.items():
        if value is not None and name in given:
            raise BadUrl(f"it names its {name} twice")
        if value is not None:
            given[name] = value
    if unknown := given.keys() - set(KNOWN):
        raise BadUrl(
            f"{len(unknown)} of its options are not known; those that are: {', '.join(KNOWN)}"
        )
    for name, is_valid in {**TLS, **ARGUMENTS}.items():
        if name in url.options and not is_valid(given[name]):
            raise BadUrl(f"the value of its option {name} is not valid")
    if given.get("sslnegotiation") == "direct" and given.get("sslmode") not in SSL_MODES[3:]:
        raise BadUrl(
            "its option sslnegotiation=direct needs sslmode=require, verify-ca or verify-full"
        )
    return given


def _addresses(url: Url) -> dict[str, Any]:
    hosts = _hosts(url)
    if not hosts:
        return {}
    found: dict[str, Any] = {"host": [host.name for host in hosts]}
    if any(host.port for host in hosts):  # otherwise the driver's default: PGPORT or 5432
        found["port"] = [host.port or DEFAULT_PORT for host in hosts]
    return found


def _hosts(url: Url) -> list[Host]:
    names = url.options.get("host", "")
    hosts = list(url.hosts) or [Host(name) for name in names.split(",") if name]
    if url.hosts and names:
        raise BadUrl("it names its host twice")
    if "port" not in url.options:
        return hosts
    if any(host.port for host in hosts):
        raise BadUrl("it names its port twice")
    ports = [port_number(port) for port in url.options["port"].split(",")]
    if len(ports) not in (1, len(hosts)):
        raise BadUrl("it has a different number of ports than of hosts")
    if len(ports) == 1:
        ports *= max(1, len(hosts))
    return [
        Host(host.name, port)
        for host, port in zip(hosts or [Host("localhost")], ports, strict=True)
    ]


def _default_user() -> str:
    """Return the user that the driver connects as if the URL names none."""
    try:
        return os.environ.get("PGUSER") or getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        raise BadUrl(f"it names no user, and the user id {os.geteuid()} has no name here") from None


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_TIMEOUT_S:
        raise BadUrl(f"its option connect_timeout is not a number from 1 to {MAX_TIMEOUT_S}")
    return float(text)


def embedded_url(socket_dir: str) -> str:
    """Return the URL of the embedded database.

    It sets every option that would otherwise come from the environment.
    """
    given = {
        "host": socket_dir,
        "port": "5432",
        "sslmode": "disable",
        "sslnegotiation": "postgres",
        "target_session_attrs": "any",
        "gsslib": "gssapi",
    }
    return f"postgresql://devnest@/devnest?{urlencode(given, quote_via=quote)}"
