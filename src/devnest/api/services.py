"""`Services`: the parts behind the API, which a server builds once when it starts."""

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
    """The parts behind the API of one server process.

    Attributes:
        database: The connections of everything but searches.
        hasher: Hashes and verifies passwords.
        rehasher: Replaces outdated hashes after a sign-in.
        tokens: Makes and verifies access tokens.
        revoked: The sessions that have ended while their access tokens are still valid.
        outbox: Sends mail after the response.
        policy: Which new passwords are too weak.
        metrics: Counts requests, for `/metrics`.
        publisher: Stores posts; concurrent ones share a transaction.
        opener: Stores new sessions; concurrent ones share a transaction.
        tags: The most used tags.
        searches: Searches posts, on a connection of its own.
        pool: The worker pool; None if passwords are hashed in this process.
        limited: Whether attempts and mails are limited. False with `devnest serve --no-limits`.
        pages: Lets concurrent requests for the same page share a query.
        throttle_cache: The clients that hammer, as this server knows them.
        in_flight: How many passwords are being checked for each network.
    """

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
