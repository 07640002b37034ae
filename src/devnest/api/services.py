"""What the routes work with, handed over once at the start of a server."""

from dataclasses import dataclass, field

from devnest.api.rehash import Rehasher
from devnest.api.rounds import Rounds
from devnest.api.searches import Searches
from devnest.api.tokens import TokenIssuer
from devnest.api.under_way import UnderWay
from devnest.api.waits import Waits
from devnest.mail import Outbox
from devnest.metrics import Metrics
from devnest.passwords import Hasher, Policy
from devnest.pool import RemotePool
from devnest.store import Database, Draft, Grouped, Opened, Opening, Post, RevokedSessions, Tags

__all__ = ["Services"]


@dataclass(frozen=True)
class Services:
    """The parts behind the API of one server process. `pool`: None where passwords are hashed elsewhere."""

    database: Database
    hasher: Hasher
    rehasher: Rehasher
    tokens: TokenIssuer
    revoked: RevokedSessions
    outbox: Outbox
    policy: Policy
    metrics: Metrics
    publisher: Grouped[Draft, Post]
    opener: Grouped[Opening, Opened | None]
    tags: Tags
    searches: Searches
    pool: RemotePool | None
    limited: bool = True
    pages: Rounds[bytes] = field(default_factory=Rounds)
    waits: Waits = field(default_factory=Waits)
    under_way: UnderWay = field(default_factory=UnderWay)
