"""Access tokens: JWTs (RFC 7519) signed with HS256, each verified once and then remembered until it expires."""

import time
from dataclasses import dataclass
from uuid import UUID

import jwt

__all__ = ["ACCESS_TOKEN_LIFETIME_S", "LEEWAY_S", "InvalidToken", "Principal", "TokenIssuer"]

ACCESS_TOKEN_LIFETIME_S = 15 * 60
ISSUER = "devnest"
AUDIENCE = "devnest"
ALGORITHM = "HS256"
LEEWAY_S = 5  # between the clocks of two machines
LONGEST_TOKEN = 2048
REMEMBERED_TOKENS = 20_000  # about 10 MB


class InvalidToken(Exception):
    """A bearer token is missing, broken, forged or expired."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for."""

    account_id: UUID
    session_id: UUID


class TokenIssuer:
    """Makes and checks the access tokens of one key of at least 32 bytes. Belongs to one event loop."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._verified: dict[str, tuple[Principal, float]] = {}

    def issue(self, account_id: UUID, session_id: UUID) -> str:
        """A token for one session, valid for 15 minutes."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(account_id),
            "sid": str(session_id),
            "iat": now,
            "exp": now + ACCESS_TOKEN_LIFETIME_S,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> Principal:
        """Who the token speaks for; raises `InvalidToken`."""
        known = self._verified.get(token)
        if known is not None:
            principal, expires = known
            if time.time() < expires:
                return principal
            del self._verified[token]
        principal, expires = self._decode(token)
        if len(self._verified) >= REMEMBERED_TOKENS:
            del self._verified[next(iter(self._verified))]  # the oldest
        self._verified[token] = principal, expires
        return principal

    def _decode(self, token: str) -> tuple[Principal, float]:
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken("the access token is too long")
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "sid"]},
            )  # fmt: skip
            return Principal(UUID(claims["sub"]), UUID(claims["sid"])), claims["exp"] + LEEWAY_S
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the access token has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise InvalidToken("the access token is not valid") from None
