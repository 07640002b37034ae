"""What the routes work with, handed over once at the start of a server."""

from dataclasses import dataclass

from devnest.api.tokens import TokenIssuer
from devnest.metrics import Metrics
from devnest.passwords import Hasher
from devnest.pool import RemotePool
from devnest.store import Database

__all__ = ["Services"]


@dataclass(frozen=True)
class Services:
    """The parts behind the API of one server process. `pool`: None where passwords are hashed elsewhere."""

    database: Database
    hasher: Hasher
    tokens: TokenIssuer
    metrics: Metrics
    pool: RemotePool | None
