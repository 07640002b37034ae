"""`Idempotency-Key`: a client that lost an answer sends the same request again, and it is done once.

A key belongs to its caller, and to the operation and its arguments as the router has read them, so that every spelling
of a path is the same request. Keys of others are others. The caller is the account; who registers has none yet, so
there it is the network the request came from, as the throttles see it (an IPv6 /64). Within it a stranger would have to
guess the key, and would then learn what he sent himself.

The body counts by a SHA-256 of what it means, spaces and order aside. A password is not in it: a fast hash of a body
with a password is what somebody with a copy of the database would guess at, thousands of times faster than at bcrypt.
HMAC under the signing key would move that to whoever has the data directory as well, and forget every key when the
signing key is rotated. So whoever registers again with a key shows the password by the slow hash that is stored
anyway, throttled like a sign-in (see `devnest.api.routes.auth`).
"""

import hashlib
import re

import msgspec

from devnest.api.http.problems import FieldError, ProblemError
from devnest.api.http.request import ApiRequest
from devnest.store import Claim

__all__ = ["IDEMPOTENCY_KEY", "claim_of"]

IDEMPOTENCY_KEY = "^[\\x21-\\x7e]{1,128}$"  # visible ASCII; a UUID has 36
ALLOWED = re.compile(IDEMPOTENCY_KEY.removesuffix("$"))


def claim_of(request: ApiRequest, caller: object, asked: object) -> Claim | None:
    """Read what a request's key stands for.

    Args:
        request: A request that the router has found the route of.
        caller: Whose key it is.
        asked: What the body means.

    Returns:
        The claim, None where the request has no key.

    Raises:
        ProblemError: 400 for what is no key, and for two.
    """
    given = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    if len(given) > 1 or not ALLOWED.fullmatch(key := given[0].decode("latin-1")):
        errors = [FieldError("Idempotency-Key", "once, 1 to 128 visible ASCII characters")]
        raise ProblemError(
            400, "the idempotency key is not valid", kind="urn:devnest:parameter", errors=errors
        )
    operation = (request.scope["method"], request.scope["path_template"], request.path_params)
    scope = msgspec.json.encode((*operation, str(caller), key))
    return Claim(
        hashlib.sha256(scope).digest(), hashlib.sha256(msgspec.json.encode(asked)).digest()
    )
