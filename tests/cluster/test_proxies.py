"""DevNest behind a proxy, as real processes: who is asking, and what stays private."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tests.cluster.test_request_heads import H2C
from tests.support import (
    NO_TLS,
    PASSWORD,
    PATIENCE_S,
    DevNest,
    data_directory,
    eventually,
    http,
    running,
    sign_up,
)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("::", "127.0.0.1"), ("::", "::ffff:127.0.0.0/104"), ("127.0.0.1", "::ffff:127.0.0.1")],
)
def test_an_ipv4_proxy_is_known_on_whatever_socket(
    host: str, trusted: str, data_dir: Path, username: str
) -> None:
    """A socket on `::` calls it ::ffff:127.0.0.1. Its clients are told apart.

    Garbage is the proxy's own address.
    """
    told = {
        "203.0.113.9": "203.0.113.9",
        "198.51.100.1, ::ffff:203.0.113.10": "203.0.113.10",
        "203.0.113.11:4711": "203.0.113.11",
        "[2001:db8::1%eth0]:4711": "2001:db8::1",
        "unknown": "127.0.0.1",
        "x" * 256: "127.0.0.1",
        "203.0.113.12, <script>": "127.0.0.1",
    }
    options = [f"--host={host}", f"--trusted-proxies={trusted}", "--limits"]
    with (
        running(data_dir, *options) as devnest,
        httpx.Client(
            base_url=f"http://127.0.0.1:{urlsplit(devnest.url).port}", timeout=PATIENCE_S
        ) as client,
    ):
        sign_up(client, username)
        credentials = {"username": username, "password": PASSWORD}
        for forwarded in told:
            answer = client.post(
                "/api/v1/auth/login", json=credentials, headers={"x-forwarded-for": forwarded}
            )
            assert answer.status_code == 200, answer.text
        sessions = client.get("/api/v1/auth/sessions").json()
        in_order = sorted(sessions, key=lambda session: session["created_at"])
        assert [session["address"] for session in in_order] == ["127.0.0.1", *told.values()]
        for number in range(40):  # more than one address may fail
            answer = client.post(
                "/api/v1/auth/login",
                json={"username": f"nobody-{number}", "password": PASSWORD},
                headers={"x-forwarded-for": f"203.0.113.{number}"},
            )
            assert answer.status_code == 401, answer.text
    assert devnest.log().count("X-Forwarded-For holds no address") == 1


# The configurations of docs/how-to/proxies.md, in the real programs.

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "proxies.md").read_text()
# Where Debian has both, which is no path of every user
PATHS = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def example(language: str) -> str:
    """The one block of the page in a language."""
    block: str
    (block,) = re.findall(rf"^```{language}\n(.+?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return block


def haproxy(directory: Path, address: str, devnest: str) -> list[str]:
    """The arguments with which it serves at an address, without TLS.

    It checks DevNest at the public port.
    """
    text = example("haproxy").replace("127.0.0.1:8000 check port 9000", f"{devnest} check")
    text, count = re.subn(r"bind :443 ssl .*", f"bind {address}", text)
    assert count == 1
    (directory / "haproxy.cfg").write_text(text)
    return ["-db", "-f", str(directory / "haproxy.cfg")]


def nginx(directory: Path, address: str, devnest: str) -> list[str]:
    """The same."""
    text = example("nginx").replace("127.0.0.1:8000", devnest)
    text, count = re.subn(
        r"listen 443 ssl http2;\n *ssl_certificate .*\n *ssl_certificate_key .*",
        f"listen {address};",
        text,
    )
    assert count == 1
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    user = "user root;" if os.getuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n{text}}}\n"
    )
    return ["-p", str(directory), "-c", str(directory / "nginx.conf")]


class Proxied(NamedTuple):
    """A proxy in front of a DevNest that trusts it."""

    address: tuple[str, int]
    devnest: DevNest

    @property
    def url(self) -> str:
        """Of the proxy."""
        return "http://{}:{}".format(*self.address)

    def exchange(self, sent: bytes) -> bytes:
        """Send some bytes to the proxy, and read until the end."""
        with socket.create_connection(self.address, timeout=PATIENCE_S) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module", params=[haproxy, nginx], ids=lambda command: command.__name__)
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """Each of the proxies, where it is installed, before a DevNest that has `/metrics` on its
    public port.
    """
    command: Callable[..., list[str]] = request.param
    program = shutil.which(command.__name__, path=PATHS)
    if program is None:
        pytest.skip(f"NOT TESTED: {command.__name__} is not installed, so its example was not run")
    with (
        data_directory() as data_dir,
        running(data_dir, "--trusted-proxies=127.0.0.1", "--limits") as devnest,
    ):
        with socket.create_server(("127.0.0.1", 0)) as free:
            host, port = free.getsockname()
        directory = tmp_path_factory.mktemp(command.__name__)
        arguments = command(directory, f"{host}:{port}", urlsplit(devnest.url).netloc)
        process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            proxy = Proxied((host, port), devnest)
            eventually(lambda: process.poll() is not None or answers(proxy))
            yield proxy
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def answers(proxy: Proxied) -> bool:
    """Whether it listens, and knows that DevNest is ready."""
    with suppress(httpx.ConnectError):
        return http.get(f"{proxy.url}/healthz").status_code == 200
    return False


def test_a_proxy_s_clients_are_told_apart(proxied: Proxied, username: str) -> None:
    """By the address they came from, whatever they wrote before it."""
    for source, forwarded in (
        ("127.0.0.2", None),
        ("127.0.0.3", "203.0.113.9"),
        ("127.0.0.4", "x" * 256),
    ):
        transport = httpx.HTTPTransport(local_address=source, verify=NO_TLS)
        headers = {"x-forwarded-for": forwarded} if forwarded else {}
        with httpx.Client(
            base_url=proxied.url, transport=transport, timeout=PATIENCE_S, headers=headers
        ) as client:
            name = f"{username[:12]}-{source[-1]}"
            sign_up(client, name)
            (session,) = client.get("/api/v1/auth/sessions").json()
            assert session["address"] == source
            for _ in range(20):
                wrong = {"username": f"{name}-x", "password": PASSWORD}
                assert client.post("/api/v1/auth/login", json=wrong).status_code in (401, 429)
    assert http.get(f"{proxied.url}/api/v1/posts").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_a_proxy_keeps_operational_routes_private(proxied: Proxied, path: str) -> None:
    """However they are spelt. DevNest itself would answer."""
    assert http.get(proxied.devnest.url + path).status_code == 200
    encoded = f"/%{ord(path[1]):02x}{path[2:]}"
    spellings = [
        path, f"/{path}", f"{path}/", f"/./{path[1:]}", encoded, f"/{encoded}/", f"{path}%2f", f"{path}#x",
        f"/api/..{path}", f"{path}?x", f"http://x{path}", f"http://x/{path}",
    ]  # fmt: skip
    for spelling in spellings:
        answer = proxied.exchange(
            f"GET {spelling} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 400"), spelling


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_client_of_a_proxy_may_offer_http_2(
    proxied: Proxied, framing: str, username: str
) -> None:
    """Whatever it does with it: the body arrives, and the connection serves the next request."""
    body = json.dumps(
        {"username": username, "email": f"{username}@example.org", "password": PASSWORD}
    ).encode()
    if framing == "chunked":
        framed = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framed = b"content-length: %d\r\n\r\n%b" % (len(body), body)
    sent = (
        b"POST /api/v1/auth/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + H2C
        + framed
    )
    answer = proxied.exchange(
        sent + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    assert re.findall(rb"HTTP/1.1 (\d{3}) ", answer) == [b"201", b"200"]
    assert answer.endswith(b"ok\n")
