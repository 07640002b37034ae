"""Access tokens: JWTs (RFC 7519), made or verified once and then remembered until they, or their keys, expire."""

import time
from typing import Any
from uuid import UUID

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from devnest.api.http.problems import InvalidToken
from devnest.api.http.request import Principal
from devnest.keys import KeySet, ReadyKey

__all__ = ["ACCESS_TOKEN_LIFETIME_S", "LEEWAY_S", "TokenIssuer"]

ACCESS_TOKEN_LIFETIME_S = 15 * 60
ISSUER = "devnest"
AUDIENCE = "devnest"
LEEWAY_S = 5  # between the clocks of two machines
MAX_TOKEN_CHARS = 2048  # of an access token; a longer one is none of ours, and is not parsed
REMEMBERED_TOKENS = 20_000  # about 10 MB


class _Hmac(HMACAlgorithm):
    """With keys that were looked at when they were loaded: PyJWT looks at its key anew for each token."""

    def prepare_key(self, key: Any) -> bytes:
        """The key as it is."""
        return bytes(key)


SIGNING = jwt.PyJWS()
SIGNING.unregister_algorithm("HS256")
SIGNING.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))


class TokenIssuer:
    """Makes and checks access tokens. Belongs to one event loop."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self._verified: dict[str, tuple[Principal, float]] = {}

    def use(self, keys: KeySet) -> None:
        """Take other keys from now on; what the old ones verified is forgotten."""
        self._keys = keys
        self._verified.clear()

    def public_keys(self) -> list[dict[str, str]]:
        """What others can verify tokens with, as JWKs."""
        return self._keys.public(time.time())

    def issue(self, account_id: UUID, session_id: UUID) -> str:
        """A token for one session, valid for 15 minutes."""
        now = int(time.time())
        expires_at = now + ACCESS_TOKEN_LIFETIME_S
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(account_id),
            "sid": str(session_id),
            "iat": now,
            "exp": expires_at,
        }
        signer, payload = self._keys.signer(now), msgspec.json.encode(claims)
        token = SIGNING.encode(
            payload, signer.signing, algorithm=signer.key.algorithm, headers={"kid": signer.key.kid}
        )
        # Who signs in goes on over the same connection, most often: this server need not verify what it has made.
        self._remember(
            token, Principal(account_id, session_id, now), _last_moment(expires_at, signer)
        )
        return token

    def verify(self, token: str) -> Principal:
        """Who the token speaks for; raises `InvalidToken`."""
        known = self._verified.get(token)
        if known is not None:
            principal, expires = known
            if time.time() < expires:
                return principal
            del self._verified[token]
        principal, expires = self._decode(token)
        self._remember(token, principal, expires)
        return principal

    def _remember(self, token: str, principal: Principal, expires: float) -> None:
        if len(self._verified) >= REMEMBERED_TOKENS:
            del self._verified[next(iter(self._verified))]  # the oldest
        self._verified[token] = principal, expires

    def _decode(self, token: str) -> tuple[Principal, float]:
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidToken("the access token is too long")
        try:
            verifier = self._keys.verifier(jwt.get_unverified_header(token).get("kid"), time.time())
            if verifier is None:
                raise InvalidToken("the access token is not valid")
            # The algorithm is the key's; the token's own word for it has to agree.
            claims = jwt.decode(
                token, verifier.verifying, algorithms=[verifier.key.algorithm],
                audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_S, options={"require": ["exp", "iat", "sub", "sid"]},
            )  # fmt: skip
            principal = Principal(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["iat"]))
            return principal, _last_moment(claims["exp"], verifier)
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the access token has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise InvalidToken("the access token is not valid") from None


def _last_moment(expires_at: int, key: ReadyKey) -> float:
    return min(expires_at + LEEWAY_S, key.verifies_until)
