"""`/.well-known/jwks.json`: what other services verify access tokens with."""

import msgspec
from litestar import get

from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply

__all__ = ["read_keys"]

MAX_AGE_S = 15  # half of what a new key waits before it signs


class PublicKey(msgspec.Struct, frozen=True):
    """An Ed25519 key (RFC 8037); `kid` is what a token's header says."""

    kty: str
    crv: str
    use: str
    alg: str
    kid: str
    x: str


class PublicKeys(msgspec.Struct, frozen=True):
    """A JWK set (RFC 7517)."""

    keys: list[PublicKey]


@get("/.well-known/jwks.json", tags=["operation"], summary="The public keys of access tokens")
async def read_keys(request: ApiRequest) -> Reply[PublicKeys]:
    """Keys that sign with EdDSA, those before and after them too. Empty where a secret key signs (HS256)."""
    keys = PublicKeys([PublicKey(**key) for key in request.services.tokens.public_keys()])
    return Reply(keys, headers={"Cache-Control": f"public, max-age={MAX_AGE_S}"})
