"""`--management`: what an operator asks for, on a listener of its own."""

import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.cluster.test_connections import GET, on_uvloop, serving, until_active
from tests.cluster.test_serve import one_line, serve
from tests.metrics import requests, scrape, total, until
from tests.support import NO_TLS, PATIENCE_S, DevNest, data_directory, eventually, http, running

APART = ("/metrics", "/readyz")


def management_of(devnest: DevNest) -> str:
    """The URL of the second line that it prints."""
    assert devnest.process.stdout is not None
    line = devnest.process.stdout.readline()
    assert re.fullmatch(r"DevNest management on http://\S+\n", line)
    return line.split()[-1]


@pytest.fixture(scope="module")
def managed() -> Iterator[tuple[DevNest, str]]:
    """Two servers with a management listener, and its URL."""
    with (
        data_directory() as data_dir,
        running(data_dir, "--processes=2", "--management=127.0.0.1:0") as devnest,
    ):
        yield devnest, management_of(devnest)


@pytest.mark.parametrize("path", [*APART, "/healthz"])
def test_it_answers_what_the_public_port_does_not(managed: tuple[DevNest, str], path: str) -> None:
    """`/healthz` alone is on both: a proxy in front may want it."""
    devnest, management = managed
    assert http.get(management + path).status_code == 200
    assert http.get(devnest.url + path).status_code == (404 if path in APART else 200)
    assert http.get(f"{devnest.url}/{path}").status_code == 404
    assert http.head(devnest.url + path).status_code == (404 if path in APART else 200)
    assert http.get(f"{management}{path}/").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/schema",
        "/.well-known/jwks.json",
        "/api/v1/posts",
        "/api/v1/auth/login",
    ],
)
def test_it_answers_nothing_else(managed: tuple[DevNest, str], path: str) -> None:
    """No route of the API is reached around the public port's proxy."""
    _, management = managed
    assert http.get(management + path).status_code == 404
    assert http.post(management + path, json={}).status_code == 404


def test_the_public_document_does_not_name_it(managed: tuple[DevNest, str]) -> None:
    """It says what that port answers."""
    devnest, _ = managed
    paths = set(http.get(f"{devnest.url}/openapi.json").json()["paths"])
    assert "/healthz" in paths
    assert not paths & set(APART)


def test_it_tells_of_the_whole_cluster(managed: tuple[DevNest, str]) -> None:
    """Whichever server answers, and of requests on both listeners."""
    devnest, management = managed
    for url in (devnest.url, management) * 10:
        http.options(f"{url}/healthz")  # which no other test here does
    until(management, lambda page: requests(page, "OPTIONS", "/healthz", 204) == 20)
    for _ in range(10):
        assert requests(scrape(management), "OPTIONS", "/healthz", 204) == 20


@contextmanager
def asking(url: str) -> Iterator[list[object]]:
    """Ask again and again on a kept connection, and over new ones; gives what was no 200."""
    failures: list[object] = []
    enough = threading.Event()

    def ask() -> None:
        with httpx.Client(verify=NO_TLS, timeout=PATIENCE_S) as kept:
            while not enough.is_set():
                for get in (kept.get, http.get):
                    try:
                        answer = get(url)
                    except httpx.HTTPError as error:
                        failures.append(error)
                    else:
                        if answer.status_code != 200:
                            failures.append(answer.text)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        enough.set()
        thread.join(PATIENCE_S)


def test_it_takes_part_in_every_change_of_the_servers(data_dir: Path) -> None:
    """HUP, TTIN and TTOU fail no request to it; TERM ends it with the rest."""
    with running(data_dir, "--management=127.0.0.1:0") as devnest:
        management = management_of(devnest)
        with asking(f"{management}/metrics") as failures:
            for number, servers in ((signal.SIGTTIN, 2), (signal.SIGHUP, 2), (signal.SIGTTOU, 1)):
                old = {process.pid for process in devnest.find("devnest.cluster.server")}
                devnest.process.send_signal(number)
                eventually(lambda: has_changed(devnest, old, servers, anew=number is signal.SIGHUP))  # noqa: B023
                until(management, lambda page: total(page, "pool_up") == 1)
        assert failures == []
    with pytest.raises(httpx.ConnectError):
        http.get(f"{management}/healthz")


def has_changed(devnest: DevNest, old: set[int], servers: int, *, anew: bool) -> bool:
    """Whether there are as many servers, other ones where they are to be."""
    now = {process.pid for process in devnest.find("devnest.cluster.server")}
    return len(now) == servers and (now.isdisjoint(old) if anew else now != old)


@on_uvloop
async def test_it_has_room_where_clients_have_taken_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator sees into a server that is full; and takes no room from it."""
    monkeypatch.setattr("devnest.cluster.acceptor.MAX_CONNECTIONS", 2)
    async with serving(tmp_path) as at:
        busy = [await at.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(GET.replace(b"small", b"slow"))
        await until_active(at, 2)
        for _ in range(5):
            reader, writer = await at.connect(management=True)
            writer.write(GET)
            assert b" 200 " in await reader.readuntil(b"small")
            writer.close()
        at.go.set()
        for reader, writer in busy:
            assert b" 200 " in await reader.readuntil(b"slow")
            writer.close()


@pytest.mark.parametrize(
    "value",
    [
        "9000",
        ":9000",
        "127.0.0.1",
        "127.0.0.1:web",
        "127.0.0.1:99999",
        "::1:9000",
        "http://x:1",
        "",
    ],
)
def test_where_it_listens_is_named_in_full(value: str, data_dir: Path) -> None:
    """A host that was left out would be everybody's."""
    run = serve("--management", value, "--data-dir", str(data_dir))
    assert run.returncode == 2
    assert "HOST:PORT" in run.stderr
    assert not data_dir.exists()


def test_a_taken_port_is_one_line(data_dir: Path) -> None:
    """Status 3, as for the public one, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(
            serve("--port=0", f"--management=127.0.0.1:{port}", "--data-dir", str(data_dir)), 3
        )
    assert f"cannot listen on 127.0.0.1 port {port}" in line
    assert not data_dir.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
def test_the_public_address_is_not_the_management_s(host: str, data_dir: Path) -> None:
    """Nor is one that holds it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = one_line(
        serve(f"--port={port}", f"--management={host}:{port}", "--data-dir", str(data_dir)), 3
    )
    assert f"cannot listen on {host} port {port}" in line


def test_it_may_be_on_ipv6(data_dir: Path) -> None:
    """In brackets, as in a URL."""
    with running(data_dir, "--management=[::1]:0") as devnest:
        management = management_of(devnest)
        assert urlsplit(management).hostname == "::1"
        assert http.get(f"{management}/readyz").status_code == 200
