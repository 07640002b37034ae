"""Every known way to forge a JWT, against a running server: RFC 8725, and what libraries fell
for.
"""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from devnest.keys import KEYS_FILE, load_keys
from tests.support import DevNest, sign_up

ME = "/api/v1/users/me"


def part(content: object) -> str:
    """A part of a token: base64url of JSON, or of these bytes."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Token:
    """A good token taken apart, and the key it was signed with: all that an attacker may know,
    and more.
    """

    def __init__(self, text: str, key: bytes) -> None:
        self.text = text
        self.key = key
        self.header: dict[str, Any] = jwt.get_unverified_header(text)
        self.claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})

    def signed(
        self,
        header: object = None,
        claims: object = None,
        key: bytes | None = None,
        mac: Any = "sha256",
    ) -> str:
        """Another token, signed with the server's own key unless another is given."""
        head, body = (
            part(self.header if header is None else header),
            part(self.claims if claims is None else claims),
        )
        return f"{head}.{body}.{part(hmac.digest(self.key if key is None else key, f'{head}.{body}'.encode(), mac))}"

    def claiming(self, **changes: object) -> str:
        """Signed as the server would, with other claims; `None` leaves one out."""
        return self.signed(
            claims={k: v for k, v in {**self.claims, **changes}.items() if v is not None}
        )

    def heading(self, key: bytes | None = b"x" * 48, **changes: object) -> str:
        """With other headers; by an attacker's key, since nobody else writes headers."""
        return self.signed(header={**self.header, **changes}, key=key)

    def parts(self) -> list[str]:
        return self.text.split(".")


Forge = Callable[[Token], str]
NOW = time.time


def unsigned(alg: object, signature: bytes = b"") -> Forge:
    """By no key at all, or with a signature of somebody's."""
    return lambda t: f"{part({**t.header, 'alg': alg})}.{part(t.claims)}.{part(signature)}"


def naming_key(kid: object, key: bytes) -> Forge:
    """Signed with what the attacker hopes is found under that name."""
    return lambda t: t.heading(key, kid=kid)


def claiming(**changes: object) -> Forge:
    """Signed as the server would, with other claims."""
    return lambda t: t.claiming(**changes)


def twice(claims: dict[str, Any]) -> bytes:
    """The claims with another subject behind the first."""
    return json.dumps(claims)[:-1].encode() + b', "sub": "019c0000-0000-7000-8000-000000000000"}'


NO_ALGORITHMS: list[object] = ["none", "None", "NONE", "nOnE", "", None, 0, [], "HS256", "HS1"]
NO_IDS: list[object] = ["", "admin", 1, True, [], {}, "' OR 1=1 --", "ü", "\0"]


def attackers_key(token: Token) -> str:
    """A signature that is right, by a key that the header brings along."""
    key = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(key.public_key().public_bytes_raw())}
    signed = f"{part({**token.header, 'alg': 'EdDSA', 'jwk': jwk})}.{part(token.claims)}"
    return f"{signed}.{part(key.sign(signed.encode()))}"


FORGERIES: dict[str, Forge] = {
    # the algorithm
    **{f"alg {alg!r}": unsigned(alg) for alg in NO_ALGORITHMS},
    "RS256 by another": unsigned("RS256", bytes(range(256))),
    "PS256 by another": unsigned("PS256", bytes(range(256))),
    "ES256 by another": unsigned("ES256", bytes(range(64))),
    "ES256 of zeros": unsigned("ES256", bytes(64)),
    "EdDSA by another": unsigned("EdDSA", bytes(range(64))),
    "EdDSA of zeros": unsigned("EdDSA", bytes(64)),
    "alg none, the old signature": lambda t: f"{part({**t.header, 'alg': 'none'})}.{t.parts()[1]}.{t.parts()[2]}",
    "no alg": lambda t: t.signed(header={"typ": "JWT"}),
    "HS384 with our key": lambda t: t.signed(header={**t.header, "alg": "HS384"}, mac="sha384"),
    "HS512 with our key": lambda t: t.signed(header={**t.header, "alg": "HS512"}, mac="sha512"),
    "alg twice": lambda t: t.signed(header=b'{"alg":"none","alg":"HS256","typ":"JWT"}', key=b"x" * 48),
    # the key
    "another key": lambda t: t.signed(key=b"x" * 48),
    "an empty key": lambda t: t.signed(key=b""),
    "the key in hexadecimal": lambda t: t.signed(key=t.key.hex().encode()),
    "a key of zeros": lambda t: t.signed(key=bytes(32)),
    # who names the key
    **{
        f"kid {kid!r}": naming_key(kid, key)
        for kid, key in (
            ("../../dev/null", b""),
            ("../../../../../../dev/null", b"\0"),
            ("/dev/null", b""),
            ("/proc/sys/kernel/randomize_va_space", b"2\n"),
            ("file:///dev/null", b""),
            ("signing.key", b"signing.key"),
            ("' UNION SELECT 'x' -- ", b"x"),
            ("1; DROP TABLE accounts", b""),
            ("$(id)|id;`id`", b""),
            ("a\0b", b""),
            ("", b""),
            ("http://127.0.0.1:9/key", b""),
            (None, b""),
            (0, b""),
            (["a"], b""),
            ({"a": 1}, b""),
            ("k" * 1000, b""),
        )
    },
    "jku": lambda t: t.heading(jku="http://127.0.0.1:9/jwks.json"),
    "x5u": lambda t: t.heading(x5u="http://127.0.0.1:9/chain.pem"),
    "x5c": lambda t: t.heading(x5c=[base64.b64encode(b"no certificate").decode()]),
    "jwk, symmetric": lambda t: t.heading(jwk={"kty": "oct", "k": part(b"x" * 48)}),
    "jwk, asymmetric": lambda t: t.heading(alg="EdDSA", jwk={"kty": "OKP", "crv": "Ed25519", "x": part(bytes(32))}),
    "jwk, the attacker's own, rightly signed": attackers_key,
    "crit": lambda t: t.heading(crit=["exp"], exp=NOW()),
    "b64 false": lambda t: t.heading(b64=False, crit=["b64"]),
    "typ of another": lambda t: t.heading(typ="dpop+jwt"),
    # the claims, signed by ourselves
    "expired": lambda t: t.claiming(exp=int(NOW()) - 60),
    "expired in 1970": lambda t: t.claiming(exp=0),
    "exp is text": lambda t: t.claiming(exp="tomorrow"),
    "exp is endless": lambda t: t.signed(claims=json.dumps({**t.claims, "exp": float("inf")}).encode()),
    "exp is a list": lambda t: t.claiming(exp=[int(NOW()) + 60]),
    "not valid yet": lambda t: t.claiming(nbf=int(NOW()) + 3600),
    "issued in the future": lambda t: t.claiming(iat=int(NOW()) + 3600),
    "another audience": lambda t: t.claiming(aud="elsewhere"),
    "an audience that begins like ours": lambda t: t.claiming(aud=f"{t.claims['aud']}.example.org"),
    "another issuer": lambda t: t.claiming(iss="elsewhere"),
    "the issuer in a list": lambda t: t.claiming(iss={"a": t.claims["iss"]}),
    **{f"no {name}": claiming(**{name: None}) for name in ("iss", "aud", "sub", "sid", "exp", "iat")},
    **{
        f"{name} {value!r}": claiming(**{name: value})
        for name in ("sub", "sid")
        for value in NO_IDS
    },
    "claims are a list": lambda t: t.signed(claims=[]),
    "claims are null": lambda t: t.signed(claims=b"null"),
    "claims are no JSON": lambda t: t.signed(claims=b"{"),
    "claims are no UTF-8": lambda t: t.signed(claims=b"\xff\xfe"),
    "claims nested deep": lambda t: t.signed(claims=b"[" * 1000),
    "a number too long": lambda t: t.signed(claims=b'{"exp":' + b"9" * 1300 + b"}"),
    "header is a list": lambda t: t.signed(header=[]),
    "header is null": lambda t: t.signed(header=b"null"),
    "header is no JSON": lambda t: t.signed(header=b"{"),
    "header nested deep": lambda _: part(b"[" * 1450) + ".e30.x",
    "header nested deep in an object": lambda _: part(b'{"a":' * 280) + ".e30.x",
    # the text
    "claims exchanged": lambda t: f"{t.parts()[0]}.{part({**t.claims, 'sub': t.claims['sid']})}.{t.parts()[2]}",
    "a claim twice": lambda t: ".".join([t.parts()[0], part(twice(t.claims)), t.parts()[2]]),
    "no signature": lambda t: ".".join(t.parts()[:2]),
    "an empty signature": lambda t: f"{'.'.join(t.parts()[:2])}.",
    "half a signature": lambda t: t.text[: -len(t.parts()[2]) // 2],
    "one bit of the signature": lambda t: t.text[:-10] + ("A" if t.text[-10] != "A" else "B") + t.text[-9:],
    "cut by two": lambda t: t.text[:-2],
    "only a header": lambda t: t.parts()[0],
    "five parts, as of a JWE": lambda t: f"{t.text}.a.b",
    "no dots": lambda t: t.text.replace(".", ""),
    "dots alone": lambda _: "..",
    "as JSON": lambda t: json.dumps({"payload": t.parts()[1], "protected": t.parts()[0], "signature": t.parts()[2]}),
    "base64 with +/": lambda t: t.text[:-4] + "+/+/",
    "a line feed's escape": lambda t: t.text + "%0A",
    "a space within": lambda t: t.text.replace(".", ". ", 1),
    "a tab within": lambda t: t.text.replace(".", "\t.", 1),
    "a full stop of elsewhere": lambda t: t.text.replace(".", "\u3002"),
    "full-width letters": lambda t: "".join(chr(ord(c) + 0xFEE0) for c in t.text[:20]) + t.text[20:],
    "a byte order mark": lambda t: f"\ufeff{t.text}",
    "a soft hyphen": lambda t: f"{t.text}\u00ad",
    "two tokens": lambda t: f"{t.text},{t.text}",
    "quoted": lambda t: f'"{t.text}"',
    "huge": lambda t: t.text + "A" * 30_000,
    "huge, by our own key": lambda t: t.claiming(more="A" * 10_000),
    "huge and compressible": lambda t: t.signed(header={**t.header, "zip": "DEF"}, claims=bytes(20_000)),
}  # fmt: skip


def signing_key(data_dir: Path) -> bytes:
    """What the server signs with."""
    return load_keys(data_dir / KEYS_FILE).signer(time.time()).key.secret


@pytest.fixture(scope="module")
def token(devnest: DevNest) -> Token:
    """A good token, with the key to make more."""
    with devnest.client() as client:
        return Token(sign_up(client, f"jwt{uuid.uuid4().hex[:20]}"), signing_key(devnest.data_dir))


def ask(client: httpx.Client, token: str) -> httpx.Response:
    return client.get(ME, headers=[(b"authorization", b"Bearer " + token.encode())])


def test_what_is_signed_here_is_what_the_server_signs(client: httpx.Client, token: Token) -> None:
    """Or the forgeries of claims below would prove nothing."""
    assert ask(client, token.text).status_code == 200
    assert ask(client, token.signed()).status_code == 200
    assert ask(client, token.claiming(more="of no interest")).status_code == 200


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forgery_is_refused(client: httpx.Client, token: Token, forge: Forge) -> None:
    """401, the same for all, and the good token is good still."""
    answer = ask(client, forge(token))
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["detail"] in (
        "the access token is not valid",
        "the access token has expired",
        "the access token is too long",
    )
    assert ask(client, token.text).status_code == 200


def test_a_public_key_is_no_secret(client: httpx.Client, token: Token) -> None:
    """What the server publishes to check tokens with signs none (the RS256 to HS256 confusion)."""
    published = client.get("/.well-known/jwks.json")
    keys = published.json()["keys"] if published.status_code == 200 else []
    for key in keys:
        for secret in (
            key["x"].encode(),
            base64.urlsafe_b64decode(key["x"] + "=="),
            json.dumps(key).encode(),
        ):
            forged = token.signed(
                header={"alg": "HS256", "typ": "JWT", "kid": key.get("kid")}, key=secret
            )
            assert ask(client, forged).status_code == 401
