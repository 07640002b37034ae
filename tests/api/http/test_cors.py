"""Which other sites' pages may call the API."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import typer
from litestar.types import Receive, Scope, Send

from devnest.api.http.cors import Cors
from devnest.api.http.middleware import RequestMiddleware
from devnest.cli.options import origins
from devnest.metrics import Metrics
from devnest.shared_memory import SharedMemory
from tests.support import DevNest, data_directory, running

APP = "https://app.example.org"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization",
}
POSTS = "/api/v1/posts"


@pytest.fixture(scope="module")
def open_to_app() -> Iterator[DevNest]:
    """A DevNest that one site's pages may call, and a program on a developer's machine."""
    options = [f"--cors-origins={APP}:443, http://localhost:3000"]
    with data_directory() as data_dir, running(data_dir, *options) as process:
        yield process


async def test_a_page_can_read_the_answers_of_last_resort() -> None:
    """They come from outside the middleware: a failure's here, and that of a server which ends."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": POSTS,
        "headers": [(b"origin", APP.encode())],
    }
    with Metrics(SharedMemory.create(), 2, "server-0") as metrics:
        await RequestMiddleware(Cors(broken, [APP]), metrics)(scope, receive, send)
    assert sent[0]["status"] == 500
    assert (b"access-control-allow-origin", APP.encode()) in sent[0]["headers"]


def cors(answer: httpx.Response) -> dict[str, str]:
    return {
        k: v for k, v in answer.headers.items() if k.startswith("access-control-") or k == "vary"
    }


def test_a_named_origin_gets_in(open_to_app: DevNest) -> None:
    """A preflight is answered with all that it asks for, an answer is readable, an error too.

    Never credentials.
    """
    with open_to_app.client() as client:
        for origin in (APP, "http://localhost:3000"):
            preflight = client.options(
                f"{POSTS}/x/comments", headers={"origin": origin, **PREFLIGHT}
            )
            assert preflight.status_code == 204
            assert preflight.content == b""
            assert preflight.headers["x-request-id"]
            allowed = cors(preflight)
            assert (allowed["access-control-allow-origin"], allowed["vary"]) == (origin, "Origin")
            assert allowed["access-control-allow-methods"] == "GET, POST, PATCH, DELETE"
            asked = {
                "authorization",
                "content-type",
                "if-match",
                "if-none-match",
                "idempotency-key",
                "x-request-id",
            }
            assert set(allowed["access-control-allow-headers"].lower().split(", ")) == asked
            for answer in (
                client.get(POSTS, headers={"origin": origin}),
                client.post(POSTS, json={}, headers={"origin": origin}),
            ):
                assert cors(answer)["access-control-allow-origin"] == origin
                assert "Location" in cors(answer)["access-control-expose-headers"]
                assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://app.example.org",
        f"{APP}.evil.example",
        f"{APP}:8443",
        "https://xapp.example.org",
        "https://appxexample.org",
        f"{APP}/",
        APP.upper(),
        f"{APP}, https://evil.example",
        "null",
        "*",
        "",
    ],
)
def test_any_other_origin_stays_out(open_to_app: DevNest, origin: str) -> None:
    """And a cache is told that another would get another answer."""
    with open_to_app.client() as client:
        for answer in (
            client.options(POSTS, headers={"origin": origin, **PREFLIGHT}),
            client.get(POSTS, headers={"origin": origin}),
            client.get(POSTS),
        ):
            assert cors(answer) == {"vary": "Origin"}
            assert answer.status_code in (200, 204)


def test_only_the_api_is_open(open_to_app: DevNest) -> None:
    """Metrics and health are for operators."""
    with open_to_app.client() as client:
        for path in ("/metrics", "/healthz", "/openapi.json"):
            assert cors(client.get(path, headers={"origin": APP})) == {}


def test_a_star_lets_all_in() -> None:
    """With the star itself, so that caches may share the answer, and no credentials.

    Metrics stay closed.
    """
    with (
        data_directory() as data_dir,
        running(data_dir, "--cors-origins=*") as process,
        process.client() as client,
    ):
        for origin in ({}, {"origin": "https://any.example"}, {"origin": "null"}):
            for answer in (
                client.get(POSTS, headers=origin),
                client.post(POSTS, json={}, headers=origin),
                client.get(f"{POSTS}/x", headers=origin),
                client.options(POSTS, headers={**origin, **PREFLIGHT}),
            ):
                allowed = cors(answer)
                assert allowed["access-control-allow-origin"] == "*"
                assert not {"vary", "access-control-allow-credentials"} & set(allowed)
            assert answer.status_code == 204
            assert "authorization" in allowed["access-control-allow-headers"].lower()
            assert cors(client.get("/metrics", headers=origin)) == {}


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("", ""),
        ("*", "*"),
        ("https://App.Example.org", APP),
        (f"{APP}:443,http://a:80 , http://a:8080,", f"{APP},http://a,http://a:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origins_are_what_browsers_send(value: str, meaning: str) -> None:
    """Lower case, no default port."""
    assert origins(value) == meaning


@pytest.mark.parametrize(
    "value", [f"{APP}/", f"{APP}/path", "app.example.org", "ftp://a", "null", f"*,{APP}", "https://*.example.org",
              "https://a:99999", "https://user@a", "https://a b", "https://ü.example"]
)  # fmt: skip
def test_a_bad_origin_is_refused(value: str) -> None:
    """With what is wrong."""
    with pytest.raises(typer.BadParameter, match="is no origin"):
        origins(value)


def test_a_bad_origin_stops_the_start() -> None:
    """Status 2, no traceback; by the environment too."""
    run = subprocess.run(
        [sys.executable, "-m", "devnest", "serve"], env={**os.environ, "DEVNEST_CORS_ORIGINS": "app.example.org"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert "'app.example.org' is no origin" in run.stderr
    assert "Traceback" not in run.stderr
