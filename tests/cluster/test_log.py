"""The log of a DevNest whose reader stands still, has gone or is full: no request and no signal
waits for it.
"""

import os
import pty
import signal
import termios
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.metrics import SERVERS, pids, total, until
from tests.support import DevNest, sign_up

PATH = "/" + "x" * 8000  # its line in the log is as long
DROPPED = "log_lines_dropped_total"


@pytest.fixture
def nowhere(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor that takes little or nothing."""
    with ExitStack() as stack:

        def kept(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        if request.param == "full":
            if not Path("/dev/full").exists():
                pytest.skip("only Linux has a file that is always full")
            yield kept(os.open("/dev/full", os.O_WRONLY))
        elif request.param == "stopped terminal":
            terminal, _ = map(kept, pty.openpty()[::-1])
            termios.tcflow(terminal, termios.TCOOFF)
            yield terminal
        else:
            reader, writer = os.pipe()
            if request.param == "reader gone":
                os.close(reader)
            else:
                kept(reader)
            yield kept(writer)


@pytest.mark.parametrize(
    "nowhere", ["never read", "stopped terminal", "reader gone", "full"], indirect=True
)
def test_no_request_and_no_signal_waits_for_the_log(
    data_dir: Path, username: str, nowhere: int, request: pytest.FixtureRequest
) -> None:
    """A kept connection stays, servers are restarted, TERM ends it.

    Lines that were lost are counted.
    """
    devnest = DevNest(data_dir, "--processes=2", "--log-level=debug", stderr=nowhere).start()
    with devnest.client() as client:
        for _ in range(100):
            assert client.get(PATH).status_code == 404
        sign_up(client, username)
    before = pids(until(devnest.url, lambda page: len(pids(page, *SERVERS)) == 2), *SERVERS)
    devnest.process.send_signal(signal.SIGHUP)
    page = until(
        devnest.url, lambda page: len(now := pids(page, *SERVERS)) == 2 and now.isdisjoint(before)
    )
    lost = request.node.callspec.params["nowhere"] in ("reader gone", "full")
    if lost:
        until(
            devnest.url,
            lambda page: (
                total(page, DROPPED) >= 100 and total(page, DROPPED, process="supervisor") > 0
            ),
        )
    else:
        assert total(page, DROPPED) == 0, "there is room for what waits"
    assert devnest.stop() == 0
