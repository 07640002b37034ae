"""Access tokens: only what we signed, for us, and only in its time."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from devnest.api import TokenIssuer
from devnest.api.http.problems import InvalidToken
from devnest.api.http.request import Principal
from devnest.api.security.tokens import (
    ACCESS_TOKEN_LIFETIME_S,
    AUDIENCE,
    ISSUER,
    LEEWAY_S,
    MAX_CACHED_TOKENS,
)
from devnest.keys import VERIFY_OVERLAP_S, Algorithm, Key, KeySet

SECRET = b"k" * 48
ACCOUNT, SESSION = uuid4(), uuid4()
HMAC = Key(kid="one", algorithm=Algorithm.HS256, secret=SECRET, signs_from=0.0)
EDDSA = Key(kid="two", algorithm=Algorithm.EDDSA, secret=b"s" * 32, signs_from=4e9)
KEYS = KeySet([HMAC, EDDSA])  # the second will sign one day; both verify
OLD = KeySet([HMAC])
PUBLIC = KEYS.public(time.time())[0]["x"]
PUBLIC_BYTES = base64.urlsafe_b64decode(PUBLIC + "=")


def forged(
    key: Any = SECRET,
    algorithm: str = "HS256",
    header: dict[str, Any] | None = None,
    **changes: object,
) -> str:
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
    header = {"kid": "one"} if header is None else header
    return jwt.encode(
        {k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm, headers=header
    )


def with_header(**header: object) -> str:
    """A token rightly signed under a header that no library would write."""
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    signed = f"{encoded}.{forged().split('.')[1]}"
    signature = (
        base64.urlsafe_b64encode(HMAC_ALGORITHM.sign(signed.encode(), SECRET)).rstrip(b"=").decode()
    )
    return f"{signed}.{signature}"


HMAC_ALGORITHM = jwt.get_algorithm_by_name("HS256")


@pytest.mark.parametrize("key", [HMAC, EDDSA], ids=["HS256", "EdDSA"])
def test_a_token_says_whose_it_is(key: Key) -> None:
    """On the server that made it and on another, at first sight and from memory.

    Its header names the key.
    """
    issuer, other = TokenIssuer(KeySet([key])), TokenIssuer(KeySet([key]))
    token = issuer.issue(ACCOUNT, SESSION)
    assert (
        issuer.verify(token)
        == other.verify(token)
        == other.verify(token)
        == Principal(ACCOUNT, SESSION)
    )
    assert jwt.get_unverified_header(token) == {"alg": key.algorithm, "typ": "JWT", "kid": key.kid}


@pytest.mark.parametrize(
    "make",
    [
        lambda: forged(key=b"x" * 48),
        lambda: forged(key="", algorithm="none"),
        lambda: forged(algorithm="HS512", key=b"k" * 64),
        lambda: forged(exp=int(time.time()) - 60),
        lambda: forged(iat=int(time.time()) + 3600, nbf=int(time.time()) + 3600),
        lambda: forged(aud="other"),
        lambda: forged(iss="other"),
        lambda: forged(sub=None),
        lambda: forged(sid=None),
        lambda: forged(exp=None),
        lambda: forged(sub="nobody"),
        lambda: forged(sid="ü"),
        lambda: forged()[:-2],
        lambda: forged() + "x" * 3000,
        lambda: "",
        lambda: "a.b.c",
        lambda: "\0",
        # The header's word for the algorithm is not the key's.
        lambda: forged(header={"kid": "two"}),
        lambda: forged(key=PUBLIC_BYTES, header={"kid": "two"}),
        lambda: forged(key=PUBLIC.encode(), header={"kid": "two"}),
        lambda: forged(key=EDDSA.signing(), algorithm="EdDSA", header={"kid": "one"}),
        lambda: forged(key="", algorithm="none", header={"kid": "two"}),
        # A key that the token brings along.
        lambda: forged(
            key=b"x" * 48,
            header={"kid": "one", "jwk": {"kty": "oct", "k": "eHh4"}, "jku": "http://127.0.0.1/"},
        ),
        # Names that would be harmful if they were more than looked for.
        lambda: forged(header={}),
        lambda: forged(header={"kid": ""}),
        lambda: forged(header={"kid": "../../../../dev/null"}),
        lambda: forged(key=b"\0" * 32, header={"kid": "/dev/zero"}),
        lambda: forged(header={"kid": "one' OR '1'='1"}),
        lambda: forged(header={"kid": "x' UNION SELECT 'kkkk"}),
        lambda: forged(header={"kid": "one\0"}),
        lambda: forged(header={"kid": "ONE"}),
        lambda: forged(header={"kid": "o" * 1500}),
        lambda: forged(header={"kid": "$(id)|`id`"}),
        lambda: with_header(alg="HS256", kid=1),
        lambda: with_header(alg="HS256", kid=None),
        lambda: with_header(alg="HS256", kid=["one"]),
        lambda: with_header(alg="HS256", kid={"one": "one"}),
        lambda: with_header(alg="HS256", kid="one", crit=["exp"], exp=1),
        lambda: with_header(alg="hs256", kid="one"),
        lambda: with_header(alg=["HS256"], kid="one"),
        lambda: with_header(kid="one"),
    ],
)
def test_any_other_token_is_refused(make: Callable[[], str]) -> None:
    """Other key, no key, other algorithm, other time, other audience, missing claims, cut, huge,
    hostile names.
    """
    with pytest.raises(InvalidToken):
        TokenIssuer(KEYS).verify(make())


def test_the_forger_s_tools_work() -> None:
    """What the test above changes is all that is wrong with its tokens."""
    for token in (
        forged(),
        with_header(alg="HS256", kid="one"),
        forged(EDDSA.signing(), "EdDSA", {"kid": "two"}),
    ):
        assert TokenIssuer(KEYS).verify(token).account_id == ACCOUNT


def test_a_token_without_a_key_s_name_is_the_first_key_s() -> None:
    """Those that a DevNest gave out which knew no names; no other key takes them."""
    unnamed = KeySet(
        [Key(kid="one", algorithm=Algorithm.HS256, secret=SECRET, signs_from=0.0, named=False)]
    )
    assert TokenIssuer(unnamed).verify(forged(header={})).account_id == ACCOUNT
    with pytest.raises(InvalidToken):
        TokenIssuer(unnamed).verify(forged(key=b"x" * 48, header={}))


def test_a_remembered_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not lengthen a token's life, whether it was verified here or made here."""
    monkeypatch.setattr(
        "devnest.api.security.tokens.ACCESS_TOKEN_LIFETIME_S", -1
    )  # within the leeway
    issuer = TokenIssuer(OLD)
    tokens = [forged(exp=int(time.time()) - 1), issuer.issue(ACCOUNT, SESSION)]
    for token in tokens:
        issuer.verify(token)
    later = time.time() + 3600
    monkeypatch.setattr("devnest.api.security.tokens.LEEWAY_S", 0)
    monkeypatch.setattr("devnest.api.security.tokens.time.time", lambda: later)
    for token in tokens:
        with pytest.raises(InvalidToken):
            issuer.verify(token)


def test_what_a_server_made_it_does_not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only another does."""
    monkeypatch.setattr(TokenIssuer, "_decode", lambda *_: pytest.fail("it was verified"))
    issuer = TokenIssuer(OLD)
    assert issuer.verify(issuer.issue(ACCOUNT, SESSION)) == Principal(ACCOUNT, SESSION)


def test_a_key_s_tokens_outlive_its_replacement_and_not_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token in use is good to its end.

    What a stolen old key signs for later ends with the key.
    """
    assert VERIFY_OVERLAP_S > ACCESS_TOKEN_LIFETIME_S + LEEWAY_S + 60
    now = int(time.time())
    keys = KeySet(
        [HMAC, Key(kid="new", algorithm=Algorithm.HS256, secret=b"n" * 48, signs_from=now)]
    )
    issuer = TokenIssuer(OLD)
    honest, stolen = issuer.issue(ACCOUNT, SESSION), forged(exp=now + 10**9)
    for token in (honest, stolen):
        issuer.verify(token)
    issuer.use(keys)
    for token in (honest, stolen):
        assert issuer.verify(token) == Principal(ACCOUNT, SESSION)
    assert jwt.get_unverified_header(issuer.issue(ACCOUNT, SESSION))["kid"] == "new"
    monkeypatch.setattr("devnest.api.security.tokens.time.time", lambda: now + VERIFY_OVERLAP_S + 1)
    for token in (honest, stolen):
        with pytest.raises(InvalidToken):
            issuer.verify(token)


def test_a_discarded_key_s_tokens_end_at_once() -> None:
    """Also those that were remembered."""
    issuer = TokenIssuer(OLD)
    issuer.verify(token := issuer.issue(ACCOUNT, SESSION))
    issuer.use(KeySet([EDDSA]))
    with pytest.raises(InvalidToken):
        issuer.verify(token)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    assert MAX_CACHED_TOKENS > 1000
    monkeypatch.setattr("devnest.api.security.tokens.MAX_CACHED_TOKENS", 3)
    issuer = TokenIssuer(OLD)
    for _ in range(10):
        issuer.verify(issuer.issue(ACCOUNT, UUID(int=uuid4().int)))
    assert len(issuer._verified) == 3
