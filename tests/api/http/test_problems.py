"""Every error is an RFC 9457 problem, and every answer has a request id."""

import gzip
import json
import socket
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from devnest.api.openapi.documentation import BODIES
from tests.support import DevNest

REGISTER = "/api/v1/auth/register"
JSON = {"content-type": "application/json"}
NAMES = {"username": "ada", "email": "ada@example.org"}


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("GET", "/nowhere", b"", {}, 404),
        ("GET", "/api/v1/posts/", b"", {}, 200),
        ("GET", "/docs/nothing", b"", {}, 404),
        ("PUT", "/api/v1/posts", b"", {}, 405),
        ("POST", "/healthz", b"", {}, 405),
        ("POST", REGISTER, b"{}", {}, 415),
        ("POST", REGISTER, b"{}", {"content-type": "text/plain"}, 415),
        ("POST", REGISTER, b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
        ("POST", REGISTER, b"", JSON, 400),
        ("POST", REGISTER, b"{", JSON, 400),
        ("POST", REGISTER, b"\xff\xfe", JSON, 400),
        ("POST", REGISTER, b'{"username": "\xff\xfe\xfd"}', JSON, 400),
        ("POST", REGISTER, b'{"username": "\\ud800"}', JSON, 400),
        ("POST", REGISTER, b"[" * 100_000, JSON, 400),
        ("POST", REGISTER, b'{"a":' * 50_000, JSON, 400),
        ("POST", REGISTER, b"null", JSON, 422),
        ("POST", REGISTER, b"[]", JSON, 422),
        ("POST", REGISTER, b" " * 1_100_000, JSON, 413),
    ],
)
def test_an_error_is_a_problem(
    client: httpx.Client,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    """The status, the media type and the fields of RFC 9457."""
    answer = client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    if status < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(problem)
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b'{"a":' + b"[" * 31 + b"]" * 31 + b"}", 422, "invalid"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", 400, "depth"),
        (b'{"username":' + b'{"b":[' * 15 + b'{"b":0}' + b"]}" * 15 + b"}", 422, "invalid"),
        (b'{"username":' + b'{"b":[' * 15 + b'{"b":{}}' + b"]}" * 15 + b"}", 400, "depth"),
        (b"[" * 32 + b"]" * 32, 422, "invalid"),
        (b"[" * 33 + b"]" * 33, 400, "depth"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "depth"),
        (b'{"a":' + b'{"b":[' * 100_000 + b"]}" * 100_000 + b"}", 400, "depth"),
        (b'{"a":' + b"[" * 1_000_000, 400, "depth"),
        (b'{"a":' + b"[" * 30 + b"]}", 400, "malformed"),
        (b'{"a":"' + b"[" * 1_000_000 + b'"}', 422, "invalid"),
        (b'{"a":"' + b'\\"[{' * 200_000 + b'"}', 422, "invalid"),
        (b'{"a":["' + b"[" * 40 + b'\\\\",' + b"[" * 30 + b"]" * 31 + b"}", 422, "invalid"),
        (b'{"a":["' + b"[" * 40 + b'\\\\",' + b"[" * 31 + b"]" * 32 + b"}", 400, "depth"),
        (b'{"a":[' + b"[]," * 300_000 + b"[]]}", 422, "invalid"),
        (b'{"a":"' + b'\\"' * 400_000, 400, "malformed"),
    ],
    ids=range(16),
)
def test_a_deep_body_is_refused(
    client: httpx.Client, content: bytes, status: int, kind: str
) -> None:
    """32 levels and no more; brackets in text and beside each other are not deep."""
    answer = client.post(REGISTER, content=content, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:devnest:{kind}"), (
        answer.text
    )


@pytest.mark.parametrize("of", BODIES, ids=lambda of: of.__name__)
def test_a_body_is_never_decoded_deeper_than_its_type(of: type[msgspec.Struct]) -> None:
    """Deep content is refused where it begins, known field or not: what follows is not even
    JSON.
    """
    for name in ["unknown", *(field.encode_name for field in msgspec.structs.fields(of))]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(b'{"%b":%b' % (name.encode(), b"[" * 100_000), type=of)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"username": "b b"}, "Expected letters, digits, - and _, with a letter or a digit first"),
        ({"email": "nobody"}, "Expected an e-mail address"),
        ({"password": "short"}, "Expected `str` of length >= 8"),
    ],
)
def test_what_a_text_may_look_like_is_said_in_words(
    client: httpx.Client, wrong: dict[str, str], message: str
) -> None:
    """No visitor reads a pattern."""
    body = {
        "username": "ada",
        "email": "ada@example.org",
        "password": "correct horse battery",
        **wrong,
    }
    (error,) = client.post(REGISTER, json=body).json()["errors"]
    assert error == {"field": next(iter(wrong)), "detail": message}


def test_nor_in_the_query(client: httpx.Client) -> None:
    """The parameters have the same patterns."""
    query = {"author": "b b", "tag": "B", "cursor": "x", "q": "\0"}
    errors = client.get("/api/v1/posts", params=query).json()["errors"]
    assert {error["field"] for error in errors} == query.keys()
    assert all("regex" not in error["detail"] and "^" not in error["detail"] for error in errors), (
        errors
    )


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api/v1/posts?" + "&".join(["a=1"] * 31 + ["limit=1"]), 200),
        ("/api/v1/posts?" + "&" * 32, 400),
        ("/api/v1/posts?" + "&".join(f"{number:x}=1" for number in range(3000)), 414),
        ("/api/v1/posts?q=" + "a" * 16_384, 414),
        ("/api/v1/users/" + "a" * 16_384, 414),
        ("/metrics?" + "a" * 16_384, 414),
        ("/api/v1/users/" + "a" * 16_370, 404),
    ],
    ids=range(7),
)
def test_a_target_is_bounded(client: httpx.Client, target: str, status: int) -> None:
    """Before it is read: the framework remembers queries and paths, and would do it whatever
    their size.
    """
    answer = client.get(target)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [REGISTER, "/api/v1/auth/login", "/api/v1/posts"])
@pytest.mark.parametrize(
    "codings",
    [
        ["gzip"],
        ["GZIP"],
        ["x-gzip"],
        ["deflate"],
        ["br"],
        ["zstd"],
        ["identity, gzip"],
        ["identity", "gzip"],
        ["aes128gcm"],
    ],
    ids=str,
)
def test_a_coded_body_is_refused(member: httpx.Client, path: str, codings: list[str]) -> None:
    """415 with what would do (RFC 9110, 15.5.16), whatever the body is."""
    headers = [*JSON.items(), *(("content-encoding", coding) for coding in codings)]
    for content in (gzip.compress(b"{}"), b"{}"):
        answer = member.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:devnest:content-encoding")
        assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["", "identity", "Identity", "identity , ,identity"])
def test_a_body_may_be_said_to_be_plain(client: httpx.Client, coding: str) -> None:
    """Which it is."""
    answer = client.post(REGISTER, content=b"{}", headers={**JSON, "content-encoding": coding})
    assert answer.status_code == 422


def test_a_json_body_may_name_its_charset(client: httpx.Client) -> None:
    """A parameter of the media type is no reason to refuse."""
    answer = client.post(
        REGISTER, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}
    )
    assert answer.status_code == 422


def test_a_chunked_body_is_bounded_too(client: httpx.Client) -> None:
    """No length is announced, and the limit holds."""
    answer = client.post(REGISTER, content=(b" " * 10_000 for _ in range(120)), headers=JSON)
    assert answer.status_code == 413


@pytest.mark.parametrize("headers", [{}, JSON])
def test_a_missing_body_is_called_so(client: httpx.Client, headers: dict[str, str]) -> None:
    """Not by the name of a variable."""
    answer = client.post("/api/v1/auth/login", headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, "the body is missing")
    assert "errors" not in answer.json()


def test_a_405_says_what_is_allowed(client: httpx.Client) -> None:
    """RFC 9110 asks for it."""
    assert "POST" in client.put("/api/v1/posts").headers["allow"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a-proxy.id_123", True), ("short", False), ('forged" level="info', False), ("x" * 65, False)],
)
def test_a_request_id_is_taken_over_where_it_is_harmless(
    client: httpx.Client, given: str, kept: bool
) -> None:
    """A proxy's id serves; text that could confuse a log does not."""
    answer = client.get("/healthz", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"]


def test_garbage_on_the_socket_ends_that_connection_only(
    devnest: DevNest, client: httpx.Client
) -> None:
    """Not HTTP at all, and a request line without end."""
    address = urlsplit(devnest.url)
    for garbage in (b"\x16\x03\x01\x02\x00\x01\xff\x00", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000):
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert client.get("/healthz").text == "ok\n"


def test_ready_says_each_part(client: httpx.Client) -> None:
    """200 while the database and the pool answer."""
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "database": "ok", "pool": "ok"},
    )


def test_the_documentation_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    """The page and what it names come from here."""
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
        assert asset in page
        assert len(client.get(asset).content) > 10_000
    assert json.loads(client.get("/openapi.json").content)["openapi"].startswith("3.1")
