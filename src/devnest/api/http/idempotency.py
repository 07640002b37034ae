"""`Idempotency-Key`: a client that lost a response can repeat its request, and it is done once.

A key belongs to its caller, to the operation, and to the operation's arguments as the router has
parsed them, so every spelling of a path is the same request. Two callers that use the same key do
not affect each other. The caller is the account. A registration has no account yet, so its
caller is the network of the client's address, as for throttling (a /64 for IPv6). Another client
in that network would have to guess the key, and would then learn only what it sent itself.

A retry must have the same body, apart from spaces and the order of fields. The database keeps a
SHA-256 of the body's content for that comparison. The password is not part of it: with a copy of
the database, an attacker could test guesses against a fast hash thousands of times faster than
against bcrypt. An HMAC under the signing key would still be open to anyone who has the data
directory, and every key would be lost when the signing key is rotated. So a client that repeats a
registration proves its password against the slow hash that the account has anyway, and such a
retry is throttled like a sign-in (see `devnest.api.routes.auth`).
"""

import hashlib
import re

import msgspec

from devnest.api.http.problems import FieldError, ProblemError
from devnest.api.http.request import ApiRequest
from devnest.store import Claim

__all__ = ["IDEMPOTENCY_KEY", "read_claim"]

IDEMPOTENCY_KEY = "^[\\x21-\\x7e]{1,128}$"  # visible ASCII; a UUID has 36 characters
VALID_KEY = re.compile(IDEMPOTENCY_KEY.removesuffix("$"))


def read_claim(request: ApiRequest, caller: object, content: object) -> Claim | None:
    """Read the idempotency key of a request.

    Args:
        request: A request that the router has matched to a route.
        caller: Whose key it is; its `str` identifies the caller.
        content: The content of the body, without passwords; msgspec has to be able to encode it.

    Returns:
        The claim that the store keeps with the response, or None if the request has no key.

    Raises:
        ProblemError: 400 if the key is not valid, or if the header is there twice.
    """
    given = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    if len(given) > 1 or not VALID_KEY.fullmatch(key := given[0].decode("latin-1")):
        errors = [FieldError("Idempotency-Key", "once, 1 to 128 visible ASCII characters")]
        raise ProblemError(
            400, "the idempotency key is not valid", kind="urn:devnest:parameter", errors=errors
        )
    operation = (request.scope["method"], request.scope["path_template"], request.path_params)
    scope = msgspec.json.encode((*operation, str(caller), key))
    return Claim(
        hashlib.sha256(scope).digest(), hashlib.sha256(msgspec.json.encode(content)).digest()
    )
