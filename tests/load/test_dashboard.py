"""The live page: its server against all that browsers and others send, and a real browser on it."""

import asyncio
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from devnest.load import BadPlan
from devnest.load.dashboard import Dashboard, Live
from devnest.load.dashboard import server as server_module
from devnest.load.messages import Second
from devnest.load.tally import Tally
from tests.load.browser import BROWSER, Browser, browsing
from tests.load.targets import DevNest, serving
from tests.load.test_report import HOSTILE, finished

COMMAND = (sys.executable, "-c", "from devnest.cli import main; main()", "load")
FREE = ("--dashboard", "--dashboard-address", "127.0.0.1:0")
LONG = ("--vus", "5", "--duration", "10m", "--set", "think_s=0.05")


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with Dashboard("127.0.0.1", 0) as dashboard:
        yield dashboard


def port_of(dashboard: Dashboard) -> int:
    return int(dashboard.url.rstrip("/").rpartition(":")[2])


async def sent(dashboard: Dashboard, data: bytes) -> bytes:
    """Return all that the server answers to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(dashboard))
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def asked(
    dashboard: Dashboard, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, str]:
    """Return the status and the whole response."""
    every = {"Host": f"127.0.0.1:{port_of(dashboard)}", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in every.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}"])
    answer = (await sent(dashboard, f"{head}\r\n\r\n{body}".encode())).decode()
    return int(answer.split(" ")[1]), answer


async def token_of(dashboard: Dashboard) -> str:
    found = re.search(r'data-token="([^"]+)"', (await asked(dashboard, "GET", "/"))[1])
    assert found is not None
    return found[1]


async def first_event(dashboard: Dashboard, kind: str) -> bytes:
    """Return the data of the first event of that kind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(dashboard), limit=1 << 26)
    try:
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not (await reader.readline()).startswith(f"event: {kind}".encode()):
            pass
        return (await reader.readline()).removeprefix(b"data:").strip()
    finally:
        writer.close()


async def test_the_page_allows_its_own_scripts_and_no_frame(dashboard: Dashboard) -> None:
    status, answer = await asked(dashboard, "GET", "/?x=1")
    head, _, page = answer.partition("\r\n\r\n")
    nonce = re.search(r"script-src 'nonce-([^']+)'", head)
    assert status == 200
    assert nonce is not None
    assert "unsafe" not in head
    assert "frame-ancestors 'none'" in head
    assert page.count("<script") == page.count(f'<script nonce="{nonce[1]}"') > 0
    assert not re.search(r"\son\w+=", page)
    assert nonce[1] not in (await asked(dashboard, "GET", "/"))[1]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200),
        ("[::1]:8089", 200),
        ("10.0.0.7", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8089", 403),
        ("a@127.0.0.1", 403),
        ("", 403),
        ("127.0.0.1, evil.example", 403),
    ],
)
async def test_the_name_of_another_host_gets_nothing(
    dashboard: Dashboard, host: str, status: int
) -> None:
    """A site whose name is made to point here (DNS rebinding) sees neither page nor token."""
    assert (await asked(dashboard, "GET", "/", Host=host))[0] == status
    assert (await asked(dashboard, "GET", "/events", Host="evil.example"))[0] == 403


async def test_the_buttons_need_the_token_and_the_pages_origin(dashboard: Dashboard) -> None:
    pressed: list[str] = []
    dashboard.control(lambda: pressed.append("stop"), lambda number: pressed.append(str(number)))
    token = await token_of(dashboard)
    origin = dashboard.url.rstrip("/")
    for headers in (
        {},
        {"X_Dashboard_Token": "wrong"},
        {"X_Dashboard_Token": "ü"},
        {"X_Dashboard_Token": token, "Origin": "http://evil.example"},
        {"X_Dashboard_Token": token, "Origin": "null"},
    ):
        for path, body in (("/stop", ""), ("/vus", '{"vus": 1}')):
            assert (await asked(dashboard, "POST", path, body, **headers))[0] == 403
    assert pressed == []
    right = {"X_Dashboard_Token": token, "Origin": origin}
    assert (await asked(dashboard, "POST", "/vus", '{"vus": 0}', **right))[0] == 204
    assert (await asked(dashboard, "POST", "/stop", **right))[0] == 204
    assert (await asked(dashboard, "POST", "/stop", **right))[0] == 409
    assert pressed == ["0", "stop"]


@pytest.mark.parametrize(
    "body",
    ["", "{}", "7", "NaN", '{"vus": NaN}', '{"vus": -1}', '{"vus": 1e99}', '{"vus": 1.5}',
     '{"vus": "7"}', '{"vus": 100001}', '{"vus": 1, "x": 2}', "[" * 9000],
)  # fmt: skip
async def test_a_number_of_vus_that_cannot_be_is_refused(dashboard: Dashboard, body: str) -> None:
    dashboard.control(None, lambda _: pytest.fail("it was taken"))
    token = await token_of(dashboard)
    status, answer = await asked(dashboard, "POST", "/vus", body, X_Dashboard_Token=token)
    assert status == 422
    assert "whole number from 0 to 100,000" in answer


async def test_a_number_that_the_machine_cannot_hold_is_refused_in_words(
    dashboard: Dashboard,
) -> None:
    def refuse(_: int) -> None:
        raise BadPlan("too few descriptors")

    token = await token_of(dashboard)
    for control, expected in ((refuse, 422), (None, 409)):
        dashboard.control(None, control)
        status, answer = await asked(
            dashboard, "POST", "/vus", '{"vus": 9}', X_Dashboard_Token=token
        )
        assert status == expected
        assert ("too few descriptors" in answer) == (control is not None)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + 20_000 * b"a", b"400"),
        (b"POST /vus HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
         b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
        (b"PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /stop HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    ],
)  # fmt: skip
async def test_garbage_gets_an_error_and_the_page_lives(
    dashboard: Dashboard, data: bytes, status: bytes
) -> None:
    answer = await sent(dashboard, data)
    assert answer[9:12] == status or not answer  # a reset overtakes an answer to unread bytes
    assert (await asked(dashboard, "GET", "/"))[0] == 200


async def test_every_browser_gets_the_state_again(dashboard: Dashboard) -> None:
    """Two browsers, and one that is reloaded: an event is the whole state."""
    dashboard.show(Live(HOSTILE, "half\nway", figures={}))
    for _ in range(3):
        state = msgspec.json.decode(await first_event(dashboard, "state"))
        assert (state["title"], state["phase"]) == (HOSTILE, "half\nway")
    dashboard.finish("<html><style></style><body><script></script></body></html>")
    assert await first_event(dashboard, "end") == b""
    page = (await asked(dashboard, "GET", "/"))[1]
    assert page.count("<script nonce=") == 2


async def test_a_browser_that_never_reads_is_dropped(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds one event at most, nobody waits for it, and others get theirs."""
    monkeypatch.setattr(server_module, "MAX_UNREAD_S", 0.2)
    with socket.create_connection(("127.0.0.1", port_of(dashboard))) as lazy:
        lazy.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not dashboard.is_read:
            await asyncio.sleep(0.01)
        for number in range(30):
            dashboard.show(Live(f"{number}", "", "x" * (1 << 22)))
        state = msgspec.json.decode(await first_event(dashboard, "state"))
        assert state["title"] == "29"
        while dashboard.readers:
            await asyncio.sleep(0.01)


async def test_only_a_page_that_is_open_costs_something(dashboard: Dashboard) -> None:
    dashboard.update(lambda: pytest.fail("nobody looks"))
    assert not dashboard.is_read
    dashboard.linger()  # returns at once


def test_an_address_that_cannot_be_used_is_told_in_words(dashboard: Dashboard) -> None:
    with pytest.raises(BadPlan, match="Address already in use"):
        Dashboard("127.0.0.1", port_of(dashboard))
    with pytest.raises(BadPlan, match=r"no dashboard on no\.such\.host\.invalid, port 1"):
        Dashboard("no.such.host.invalid", 1)


async def started(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start the command; returns it and the address of its page."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    assert line.startswith("dashboard: http://"), line
    return process, line.split()[1]


async def test_a_port_in_use_is_told_before_anything_is_sent() -> None:
    async with serving(DevNest()) as target:
        for arguments, words in (
            ((*LONG, "--dashboard", "--dashboard-address", f"127.0.0.1:{target.port}"), "in use"),
            ((*LONG, "--dashboard", "--dashboard-address", "8089"), "is not HOST:PORT"),
            ((*LONG, "--dashboard-address", "127.0.0.1:0"), "needs --dashboard"),
        ):
            process = await asyncio.create_subprocess_exec(
                *COMMAND, target.url, *arguments, stderr=asyncio.subprocess.PIPE
            )
            _, errors = await process.communicate()
            assert process.returncode == 2
            assert words in errors.decode()
            assert errors.count(b"\n") == 1
        assert target.requests == []


async def test_a_run_without_a_reader_ends_at_once() -> None:
    async with serving(DevNest()) as target:
        process, _ = await started(target.url, "--vus", "2", "--duration", "300ms", *FREE)
        output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"http_reqs" in output
    assert b"until the page is closed" not in errors


async def moved(browser: Browser, url: str) -> None:
    await browser.go(url)
    await browser.until("Number(document.documentElement.dataset.moves) >= 3")
    await browser.until("document.querySelectorAll('#content svg').length >= 4")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
async def test_a_browser_watches_a_run_changes_it_and_stops_it(tmp_path: Path) -> None:
    """The page opens and moves, survives a reload, changes the VUs, stops the run, and is then the
    report, which is served until Ctrl-C. No script fails and no other host is asked.
    """
    async with serving(DevNest()) as target, browsing(tmp_path) as browser:
        process, url = await started(target.url, *LONG, *FREE)
        await moved(browser, url)
        await moved(browser, url)
        await browser.value("number.value = 9; vus.requestSubmit(); 1")
        await browser.until("document.body.innerText.includes('9\\nvirtual users at most')")
        await browser.look(390, dark=True)
        assert await browser.value("document.documentElement.scrollWidth") <= 390
        await browser.value("document.getElementById('stop').click(); 1")
        await browser.until("document.querySelector('#figures')")
        await browser.until("document.documentElement.dataset.drawn")
        assert "This run" in await browser.value("document.body.innerText")
        assert {address.partition("/")[2].partition("/")[2] for address in browser.asked} <= {
            f"{url[7:]}{path}" for path in ("", "events", "stop", "vus", "favicon.ico")
        }
        assert browser.complaints == []
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
    assert process.returncode == 130
    assert re.search(rb"^vus_max\.+: 9", output, re.MULTILINE)


def test_a_result_has_its_rates_while_it_grows() -> None:
    result = finished()
    before = result.requests_per_s
    result.absorb(0, Second(5, 1, 0.1, 1.0, 0.0, Tally().take()))
    assert result.elapsed_s == pytest.approx(6)
    assert 0 < result.requests_per_s < before
