"""`Idempotency-Key`: a client that lost an answer sends the same request again, and it is done once.

A key belongs to its caller and path: keys of others are others. The caller is the account; who registers has none
yet, so there it is the network the request came from, as the throttles see it (an IPv6 /64). Within it a stranger
would have to guess the key, and would then learn what he sent himself.

The body counts by a SHA-256 of what it means, spaces and order aside. A password is not in it: a fast hash of a body
with a password is what somebody with a copy of the database would guess at, thousands of times faster than at bcrypt.
HMAC under the signing key would move that to whoever has the data directory as well, and forget every key when the
signing key is rotated. So whoever registers again with a key shows the password by the slow hash that is stored
anyway, throttled like a sign-in (see `devnest.api.auth`).
"""

import hashlib
import re

import msgspec

from devnest.api.problems import FieldError, ProblemError
from devnest.api.requests import ApiRequest
from devnest.store import Claim

__all__ = ["IDEMPOTENCY_KEY", "claim_of"]

IDEMPOTENCY_KEY = "^[\\x21-\\x7e]{1,128}$"  # visible ASCII; a UUID has 36
ALLOWED = re.compile(IDEMPOTENCY_KEY.removesuffix("$"))


def claim_of(request: ApiRequest, caller: object, asked: object) -> Claim | None:
    """What the request's key stands for, None where it has none; raises `ProblemError` 400 for what is no key."""
    given = next((value for name, value in request.scope["headers"] if name == b"idempotency-key"), None)
    if given is None:
        return None
    if not ALLOWED.fullmatch(key := given.decode("latin-1")):
        errors = [FieldError("Idempotency-Key", "1 to 128 visible ASCII characters")]
        raise ProblemError(400, "the idempotency key is not valid", kind="urn:devnest:parameter", errors=errors)
    scope = f"{request.scope['path']}\0{caller}\0{key}"
    return Claim(hashlib.sha256(scope.encode()).digest(), hashlib.sha256(msgspec.json.encode(asked)).digest())
