"""Access tokens: JWTs (RFC 7519), which a server verifies once and then caches."""

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
LEEWAY_S = 5  # the difference between the clocks of two machines that is tolerated
MAX_TOKEN_CHARS = 2048  # DevNest's own have far fewer; a longer token is refused unparsed
MAX_CACHED_TOKENS = 20_000  # about 10 MB


class _Hmac(HMACAlgorithm):
    """HMAC with keys that are prepared when loaded; PyJWT prepares a key for each token."""

    def prepare_key(self, key: Any) -> bytes:
        """Return the key unchanged."""
        return bytes(key)


SIGNING = jwt.PyJWS()
SIGNING.unregister_algorithm("HS256")
SIGNING.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))


class TokenIssuer:
    """Makes and verifies access tokens. An object belongs to one event loop.

    Args:
        keys: The keys that sign and verify.
    """

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self._verified: dict[str, tuple[Principal, float]] = {}  # with the end in Unix time

    def use(self, keys: KeySet) -> None:
        """Replace the keys, and forget all tokens that the old ones verified.

        Args:
            keys: The new keys.
        """
        self._keys = keys
        self._verified.clear()

    def public_keys(self) -> list[dict[str, str]]:
        """The keys with which other services can verify tokens, as JWKs."""
        return self._keys.public(time.time())

    def issue(self, account_id: UUID, session_id: UUID) -> str:
        """Make a token for a session, which is valid for `ACCESS_TOKEN_LIFETIME_S`.

        Args:
            account_id: The account.
            session_id: The session.
        """
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
        # The next request usually comes over the same connection, so it is often verified here.
        self._remember(
            token, Principal(account_id, session_id, now), _accepted_until(expires_at, signer)
        )
        return token

    def verify(self, token: str) -> Principal:
        """Verify a token, or find it among those that this server has verified or made.

        Args:
            token: The token as the client sent it.

        Returns:
            The account and the session that the token was issued for.

        Raises:
            InvalidToken: The token is not DevNest's, or it has expired, or its key has.
        """
        known = self._verified.get(token)
        if known is not None:
            principal, expires_at = known
            if time.time() < expires_at:
                return principal
            del self._verified[token]
        principal, expires_at = self._decode(token)
        self._remember(token, principal, expires_at)
        return principal

    def _remember(self, token: str, principal: Principal, expires_at: float) -> None:
        if len(self._verified) >= MAX_CACHED_TOKENS:
            del self._verified[next(iter(self._verified))]  # the oldest
        self._verified[token] = principal, expires_at

    def _decode(self, token: str) -> tuple[Principal, float]:
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidToken("the access token is too long")
        try:
            verifier = self._keys.verifier(jwt.get_unverified_header(token).get("kid"), time.time())
            if verifier is None:
                raise InvalidToken("the access token is not valid")
            # The key determines the algorithm. A token that names another one is refused.
            claims = jwt.decode(
                token,
                verifier.verifying,
                algorithms=[verifier.key.algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "sid"]},
            )
            principal = Principal(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["iat"]))
            return principal, _accepted_until(claims["exp"], verifier)
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the access token has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise InvalidToken("the access token is not valid") from None


def _accepted_until(expires_at: int, key: ReadyKey) -> float:
    """When the token or its key expires, whichever is first, in Unix time."""
    return min(expires_at + LEEWAY_S, key.verifies_until)
