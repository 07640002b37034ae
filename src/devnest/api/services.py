"""What the routes work with, handed over once at the start of a server."""

from dataclasses import dataclass

from devnest.api.tokens import TokenIssuer
from devnest.passwords import Hasher
from devnest.store import Database, RevokedSessions

__all__ = ["Services"]


@dataclass(frozen=True)
class Services:
    """The parts behind the API of one server process."""

    database: Database
    hasher: Hasher
    tokens: TokenIssuer
    revoked: RevokedSessions
    limited: bool = True
