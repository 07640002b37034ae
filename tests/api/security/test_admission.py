"""Refused before the router: whoever the pool has just refused, and nobody else."""

import httpx
import pytest
from litestar.types import Receive, Scope, Send

from devnest.api.security.admission import Admission
from devnest.api.security.throttle_cache import ThrottleCache
from devnest.passwords import Hasher, InlineRunner
from devnest.pool import PoolFull


class RefusedOne(InlineRunner):
    """A runner whose pool has just refused one client."""

    def raise_if_refused(self, client: str) -> None:
        if client in ("flooder", "2001:db8::/64"):
            raise PoolFull(1.5)


async def passed(scope: Scope, receive: Receive, send: Send) -> None:
    """What comes after it."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


REFUSING = Admission(passed, Hasher(RefusedOne(), 4), ThrottleCache())


async def answer(
    address: str, method: str, path: str, admission: Admission = REFUSING
) -> httpx.Response:
    async def framed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "given by the frame"}
        await admission(scope, receive, send)

    transport = httpx.ASGITransport(framed, client=(address, 1))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://devnest") as client:
        return await client.request(method, path, content=b"\xff" * 100)


@pytest.mark.parametrize(
    "path", ["/api/v1/auth/login", "/api/v1/auth/register", "/api/v1/auth/login/"]
)
async def test_a_flooder_is_refused_at_once(path: str) -> None:
    """On the routes that hash for anybody, with a time to come back; its body is not looked at."""
    refused = await answer("flooder", "POST", path)
    problem = refused.json()
    assert (refused.status_code, problem["type"], refused.headers["Retry-After"]) == (
        503,
        "urn:devnest:full",
        "2",
    )
    assert problem["request_id"] == "given by the frame"
    assert (await answer("honest", "POST", path)).status_code == 204


async def test_an_ipv6_subscriber_is_one_client() -> None:
    """Whichever of the addresses is used; the next subscriber is another."""
    for address, status in (
        ("2001:db8::1", 503),
        ("2001:db8::ffff:2", 503),
        ("2001:db8:0:1::1", 204),
    ):
        assert (await answer(address, "POST", "/api/v1/auth/login")).status_code == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/auth/login"), ("POST", "/api/v1/posts")]
)
async def test_other_requests_of_a_flooder_pass(method: str, path: str) -> None:
    """They hash nothing."""
    assert (await answer("flooder", method, path)).status_code == 204
