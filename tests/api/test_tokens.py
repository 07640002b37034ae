"""Access tokens: only what we signed, for us, and only in its time."""

import time
from uuid import UUID, uuid4

import jwt
import pytest

from devnest.api import TokenIssuer
from devnest.api.tokens import ALGORITHM, AUDIENCE, ISSUER, REMEMBERED_TOKENS, InvalidToken, Principal

KEY = b"k" * 48
ACCOUNT, SESSION = uuid4(), uuid4()


def forged(key: bytes | None = KEY, algorithm: str | None = ALGORITHM, **changes: object) -> str:
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(ACCOUNT),
        "sid": str(SESSION),
        "iat": now,
        "exp": now + 60,
    }
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm)


def test_a_token_says_whose_it_is() -> None:
    """At first sight and from memory."""
    issuer = TokenIssuer(KEY)
    token = issuer.issue(ACCOUNT, SESSION)
    assert issuer.verify(token) == issuer.verify(token) == Principal(ACCOUNT, SESSION)


@pytest.mark.parametrize(
    "token",
    [
        forged(key=b"x" * 48),
        forged(key=None, algorithm="none"),
        forged(algorithm="HS512", key=b"k" * 64),
        forged(exp=int(time.time()) - 60),
        forged(iat=int(time.time()) + 3600, nbf=int(time.time()) + 3600),
        forged(aud="other"),
        forged(iss="other"),
        forged(sub=None),
        forged(sid=None),
        forged(exp=None),
        forged(sub="nobody"),
        forged(sid="ü"),
        forged()[:-2],
        forged() + "x" * 3000,
        "",
        "a.b.c",
        "\0",
    ],
)
def test_any_other_token_is_refused(token: str) -> None:
    """Other key, no key, other algorithm, other time, other audience, missing claims, cut, huge."""
    with pytest.raises(InvalidToken):
        TokenIssuer(KEY).verify(token)


def test_a_remembered_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not lengthen a token's life."""
    issuer = TokenIssuer(KEY)
    token = forged(exp=int(time.time()) - 1)  # within the leeway
    issuer.verify(token)
    later = time.time() + 3600
    monkeypatch.setattr("devnest.api.tokens.LEEWAY_S", 0)
    monkeypatch.setattr("devnest.api.tokens.time.time", lambda: later)
    with pytest.raises(InvalidToken):
        issuer.verify(token)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    assert REMEMBERED_TOKENS > 1000
    monkeypatch.setattr("devnest.api.tokens.REMEMBERED_TOKENS", 3)
    issuer = TokenIssuer(KEY)
    for _ in range(10):
        issuer.verify(issuer.issue(ACCOUNT, UUID(int=uuid4().int)))
    assert len(issuer._verified) == 3
