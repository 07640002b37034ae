"""Who is at the other end of a request."""

from typing import Any

from litestar.connection import ASGIConnection

__all__ = ["client_address", "user_agent"]


def client_address(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """The client's network address; None where the connection has none, as on a Unix socket."""
    return connection.client.host if connection.client else None


def user_agent(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """What the client calls itself, without anything that could confuse a log or a database."""
    given = connection.headers.get("user-agent", "")
    return "".join(character for character in given[:256] if character.isprintable()) or None
