"""What a virtual user sends: any headers and any body, and nothing that breaks the connection."""

from typing import Any

import pytest

from devnest.load.target import Target as Url
from devnest.load.user import Session, VirtualUser
from tests.load.targets import Request, answer, constantly, serving


async def sent(token: str = "", **arguments: Any) -> Request:
    """The request that reached a server."""
    async with serving(constantly(answer(200))) as target:
        session = Session(await Url.parse(target.url).reached(), seed=1, timeout_s=5, run_tag="t")
        vu = VirtualUser(session)
        vu.token = token
        try:
            found = await vu.request("route", "PUT", "/here?a=b", **arguments)
        finally:
            vu.close()
        assert found.status == 200
        return target.requests[0]


@pytest.mark.parametrize(
    ("arguments", "body", "content_type"),
    [
        ({}, b"", None),
        ({"body": b"\x00\xff"}, b"\x00\xff", "application/octet-stream"),
        ({"body": "größer"}, "größer".encode(), "text/plain; charset=utf-8"),
        ({"json": {"a": [1, "ß"]}}, '{"a":[1,"ß"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"body": "a=b", "headers": {"content-type": "x/y"}}, b"a=b", "x/y"),
    ],
)
async def test_any_body_is_sent(
    arguments: dict[str, Any], body: bytes, content_type: str | None
) -> None:
    request = await sent(**arguments)
    assert (request.method, request.path) == ("PUT", "/here?a=b")
    assert request.body == body
    assert request.headers.get("content-type") == content_type


async def test_headers_are_added_and_replaced_in_any_case() -> None:
    request = await sent(
        "secret", headers={"X-Trace": "a, b", "ACCEPT": "text/csv", "authorization": "Basic eA=="}
    )
    assert request.headers["x-trace"] == "a, b"
    assert request.headers["accept"] == "text/csv"
    assert request.headers["authorization"] == "Basic eA=="


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"headers": {"X": "a\r\nEvil: b"}}, "the value of X has a line break"),
        ({"headers": {"X:": "a"}}, "not the name of a header"),
        ({"headers": {"": "a"}}, "not the name of a header"),
        ({"headers": {"Content-Length": "3"}}, "is set by the connection itself"),
        ({"headers": {"transfer-encoding": "chunked"}}, "is set by the connection itself"),
        ({"body": "a", "json": 1}, "a body or json, not both"),
    ],
)
async def test_what_cannot_be_sent_is_a_mistake_of_the_profile(
    arguments: dict[str, Any], words: str
) -> None:
    """A ValueError that says it; a bad value, which may be a secret, is not repeated."""
    with pytest.raises(ValueError, match=words) as caught:
        await sent(**arguments)
    assert "Evil" not in str(caught.value)
