"""`/.well-known/jwks.json`: the public keys with which other services verify access tokens."""

import msgspec
from litestar import get

from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply

__all__ = ["read_keys"]

MAX_AGE_S = 15  # half of the time for which a new key is published before it signs


class PublicKey(msgspec.Struct, frozen=True):
    """An Ed25519 key (RFC 8037). Tokens that it signed have the same `kid` in their header."""

    kty: str
    crv: str
    use: str
    alg: str
    kid: str
    x: str


class PublicKeys(msgspec.Struct, frozen=True):
    """A JWK set (RFC 7517)."""

    keys: list[PublicKey]


@get(
    "/.well-known/jwks.json",
    tags=["operation"],
    summary="Read the public keys of access tokens",
    operation_id="readSigningKeys",
)
async def read_keys(request: ApiRequest) -> Reply[PublicKeys]:
    """Returns the current EdDSA key, former ones that still verify tokens, and the next one. The
    list is empty if a secret key signs the tokens (HS256).
    """
    keys = PublicKeys([PublicKey(**key) for key in request.services.tokens.public_keys()])
    return Reply(keys, headers={"Cache-Control": f"public, max-age={MAX_AGE_S}"})
