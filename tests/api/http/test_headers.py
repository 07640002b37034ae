"""Headers that keep browsers and caches from harm."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import DevNest, sign_up


@pytest.mark.parametrize(
    "path",
    ["/api/v1/posts", "/healthz", "/nowhere", "/docs", "/openapi.json", "/api/v1/auth/login"],
)
def test_every_answer_tells_browsers_to_be_strict(client: httpx.Client, path: str) -> None:
    """Errors too; nothing may frame it or run in it."""
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_the_documentation_s_page_may_run_its_own_scripts_only(client: httpx.Client) -> None:
    """By hash and from here; every other page may run none."""
    page = client.get("/docs").headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in page
    assert "unsafe-inline" not in page.split("style-src")[0]
    assert "script-src" not in client.get("/api/v1/posts").headers["content-security-policy"]


def test_nothing_secret_is_kept_by_a_cache(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """`no-store` on everything of accounts, errors included; posts may be kept."""
    sign_up(client, username)
    for answer in (
        client.post("/api/v1/auth/login", json={}),
        client.get("/api/v1/auth/sessions"),
        client.get("/api/v1/users/me"),
        client.get(f"{devnest.url}//api//v1/users/me"),
        client.post(f"{devnest.url}/api/v1//auth/login", json={}),
        client.post("/api/v1/auth/refresh", json={"refresh_token": "x"}),
    ):
        assert answer.headers["cache-control"] == "no-store"
    assert "cache-control" not in client.get("/api/v1/posts").headers


@pytest.mark.parametrize("path", ["/api/v1/posts", "/healthz", "/api/v1/users/me", "/nowhere"])
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    """The same status and headers, errors included."""
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


def test_no_other_site_s_page_may_read_an_answer(client: httpx.Client) -> None:
    """Cross-origin requests are not allowed."""
    origin = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    for answer in (
        client.get("/api/v1/posts", headers=origin),
        client.options("/api/v1/auth/login", headers=origin),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


OPERATIONAL = [
    "/metrics",
    "/readyz",
    "/healthz",
    "/docs",
    "/docs/swagger-ui.css",
    "/openapi.json",
    "/.well-known/jwks.json",
]


@pytest.mark.parametrize("path", OPERATIONAL)
def test_a_path_outside_the_api_has_one_spelling(devnest: DevNest, path: str) -> None:
    """A proxy that denies it by its path denies it: every other spelling is a 404 here."""
    begin, end, rest = f"%{ord(path[1]):02x}", f"%{ord(path[-1]):02X}", path[2:]
    others = [
        f"/{path}", f"{path}/", f"{path}//", f"/{path}/", f"/.{path}", f"/api/..{path}", f"/api/v1/../..{path}",
        f"{path}/.", f"/{begin}{rest}", f"{path[:-1]}{end}", f"/%2f{path[1:]}", f"%2f{path[1:]}", f"{path}%2f",
        f"{path}%00", f"{path}%20", f"{path};a=b", f"{path}%3f", f"{path}%23", f"{path}#", f"{path}#there",
        path.upper(), f"/api/{path}", f"/api//..//{path}", f"http://x/{path}", f"http://x{path}/",
    ]  # fmt: skip
    assert status_of(devnest, path) == 200
    assert status_of(devnest, f"{path}?a=/b") == 200
    assert status_of(devnest, f"http://x{path}") == 200
    assert {
        other: status for other in others if (status := status_of(devnest, other)) not in (400, 404)
    } == {}


def status_of(devnest: DevNest, target: str) -> int:
    """The answer to a request whose target goes over the wire as it is."""
    address = urlsplit(devnest.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        return int(connection.makefile("rb").readline().split()[1])
