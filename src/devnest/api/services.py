"""What the routes work with, handed over once at the start of a server."""

from dataclasses import dataclass, field

from devnest.api.http.singleflight import SingleFlight
from devnest.api.searches import Searches
from devnest.api.security.in_flight import InFlight
from devnest.api.security.rehash import Rehasher
from devnest.api.security.throttle_cache import ThrottleCache
from devnest.api.security.tokens import TokenIssuer
from devnest.mail import Outbox
from devnest.metrics import Metrics
from devnest.passwords import Hasher, Policy
from devnest.pool import RemotePool
from devnest.store import Database, Draft, GroupCommit, Opened, Opening, Post, RevokedSessions, Tags

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
    publisher: GroupCommit[Draft, Post]
    opener: GroupCommit[Opening, Opened | None]
    tags: Tags
    searches: Searches
    pool: RemotePool | None
    limited: bool = True
    pages: SingleFlight[bytes] = field(default_factory=SingleFlight)
    throttle_cache: ThrottleCache = field(default_factory=ThrottleCache)
    in_flight: InFlight = field(default_factory=InFlight)
