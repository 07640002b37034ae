"""A target that is no DevNest is told in one line: what was found, and at which path."""

import asyncio
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devnest.load import LoadError, NotDevNest, Plan, TargetUnreachable, constant, run
from tests.load.targets import DevNest, Handler, Request, answer, constantly, serving

CERTIFICATE = Path(__file__).parent / "certificate.pem"
HTML = b"<!doctype html><title>\x1b[31mWelcome\n home</title><h1>Hello</h1>"


def plan(url: str) -> Plan:
    return Plan(url, stages=constant(1, 0.3), insecure=True)


async def error_of(url: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        await run(plan(url))
    assert str(caught.value).isprintable()  # one line, whatever the stranger says
    return caught.value


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (
            constantly(answer(200, HTML, content_type="text/html", extra="Server: nginx/1.22\r\n")),
            "GET /api/v1/posts gave status 200 with text/html ('[31mWelcome home') from "
            "'nginx/1.22'; a page of posts as JSON was expected",
        ),
        (constantly(answer(404, b'{"error": "no"}')), "gave status 404 with application/json; a"),
        (constantly(answer(200, b'{"items": 3}')), "gave status 200 with application/json; a"),
        (constantly(answer(301, extra="Location: /x\r\n")), "a redirect, which is not followed"),
        (constantly(b"-ERR unknown command\r\n"), "(not HTTP/1.1; it said '-ERR unknown command')"),
        (constantly(b"", keep=False), "got no HTTP response (connection closed)"),
    ],
)
async def test_what_was_found_is_said(handler: Handler, words: str) -> None:
    async with serving(handler) as target:
        error = await error_of(target.url)
    assert isinstance(error, NotDevNest)
    assert str(error).startswith(f"{target.url} is no DevNest: ")
    assert words in str(error)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_target_in_trouble_is_driven_all_the_same(status: int) -> None:
    """What it answers is what the run is to show."""
    async with serving(constantly(answer(status))) as target:
        result = await run(plan(target.url))
    assert result.failed == result.requests > 0


async def test_a_port_that_speaks_first_is_told_with_what_it_said() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        error = await error_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(error, NotDevNest)
    assert "got no HTTP response" in str(error)


async def test_a_port_that_says_nothing_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NotDevNest, match=r"did not answer GET /api/v1/posts within 0\.5 s"):
            await run(Plan(url, stages=constant(1, 0.3), timeout_s=0.5))


async def test_the_wrong_scheme_is_told() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with serving(DevNest(), tls=context) as target:
        error = await error_of(target.url.replace("https", "http"))
    assert isinstance(error, NotDevNest)
    assert str(error).endswith("the port speaks TLS; use https:// instead of http://")
    async with serving(DevNest()) as target:
        error = await error_of(target.url.replace("http", "https"))
    assert isinstance(error, TargetUnreachable)
    assert str(error).endswith("speaks plain HTTP; use http:// instead of https://")


async def test_a_profile_of_ones_own_may_drive_any_server(tmp_path: Path) -> None:
    """Only DevNest's own profiles need a DevNest; the target gets no request but the profile's."""
    (tmp_path / "own.py").write_text(
        "from devnest.load import Profile\n\n\nclass Own(Profile):\n"
        "    async def iteration(self, vu):\n        await vu.request('page', 'GET', '/page')\n"
        "        await vu.think()\n"
    )
    async with serving(constantly(answer(200, HTML, content_type="text/html"))) as target:
        result = await run(Plan(target.url, f"{tmp_path}/own.py:Own", stages=constant(1, 0.3)))
    assert result.requests > 0
    assert {request.path for request in target.requests} <= {"/page", "/metrics"}


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[str]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = " ".join(
        f"{kind}_temp_path {folder};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths}"
        f" server {{ listen 127.0.0.1:{port}; location / {{ return 404; }} }} }}\n"
    )
    server = await asyncio.create_subprocess_exec(program, "-c", str(folder / "nginx.conf"))
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()


async def test_a_plain_nginx_is_told_by_its_name(tmp_path: Path) -> None:
    async with nginx(tmp_path) as url:
        error = await error_of(url)
    assert re.search(r"gave status 404 with text/html \('404 Not Found'\) from 'nginx", str(error))


async def test_requests_never_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment names: the figures would be the proxy's."""
    asked: list[Request] = []

    async def proxy(request: Request, writer: asyncio.StreamWriter) -> bool:
        asked.append(request)
        writer.write(answer(502))
        return False

    async with serving(proxy) as other, serving(DevNest()) as target:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
            monkeypatch.setenv(name.lower(), other.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        result = await run(plan(target.url))
    assert result.requests > 0
    assert not result.failed
    assert not asked
