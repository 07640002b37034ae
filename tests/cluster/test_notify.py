"""What systemd hears from a real `devnest serve`, on a real socket.

And that the unit file is one.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devnest.cluster.notify import notify, watchdog_interval_s
from tests.support import PATIENCE_S, DevNest, http

UNIT = Path(__file__).parents[2] / "deploy" / "devnest.service"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that `NOTIFY_SOCKET` names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(PATIENCE_S)
        yield receiver


def hear(systemd: socket.socket) -> list[str]:
    """The lines of the next word that is not the watchdog's."""
    while (word := systemd.recv(4096)) == b"WATCHDOG=1":
        pass
    return word.decode().splitlines()


def test_systemd_hears_of_a_whole_life(data_dir: Path, systemd: socket.socket) -> None:
    """Ready when it answers, reloading and ready around a rolling restart, stopping at its end,
    nothing else.
    """
    devnest = DevNest(
        data_dir, "--processes", "1", environment={"NOTIFY_SOCKET": systemd.getsockname()}
    ).start()
    assert hear(systemd) == ["READY=1"]
    before = {process.pid for process in devnest.descendants()}
    assert http.get(f"{devnest.url}/readyz").status_code == 200
    devnest.process.send_signal(signal.SIGHUP)
    reloading, moment = hear(systemd)
    assert reloading == "RELOADING=1"
    name, _, microseconds = moment.partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(microseconds) > 0
    assert hear(systemd) == ["READY=1"]
    assert {process.pid for process in devnest.descendants()} != before, (
        "ready, with the servers of before"
    )
    assert devnest.stop() == 0
    assert hear(systemd) == ["STOPPING=1"]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1)


def test_the_watchdog_is_fed_until_the_supervisor_hangs(
    data_dir: Path, systemd: socket.socket
) -> None:
    """Every half interval, from the supervisor's own loop."""
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "200000"}
    devnest = DevNest(data_dir, "--processes", "1", environment=environment).start()
    assert hear(systemd) == ["READY=1"]
    for _ in range(3):
        assert systemd.recv(4096) == b"WATCHDOG=1"
    devnest.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, devnest.process.pid, os.WSTOPPED | os.WNOWAIT)
    systemd.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            systemd.recv(4096)
    systemd.settimeout(1.0)  # five intervals
    with pytest.raises(TimeoutError):
        systemd.recv(4096)
    devnest.process.send_signal(signal.SIGCONT)
    systemd.settimeout(PATIENCE_S)
    assert systemd.recv(4096) == b"WATCHDOG=1"
    assert devnest.stop() == 0, "also when nobody reads, and the socket's queue is full"


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """`@name` is a name outside of the file system; only Linux has them."""
    name = f"devnest-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        try:
            receiver.bind(f"\0{name}")
        except OSError:
            pytest.skip("no abstract addresses here")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        receiver.settimeout(PATIENCE_S)
        assert receiver.recv(100) == b"READY=1"


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without systemd, or with a socket that has gone, nothing happens."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nothing"))
    notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_interval_is_half_of_what_systemd_asks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], interval_s: float | None
) -> None:
    """And none where the watchdog is another process's."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == interval_s


def test_systemd_accepts_the_unit_file(tmp_path: Path) -> None:
    """No unknown setting, no wrong value."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here")
    command = "ExecStart=/opt/devnest/bin/devnest "
    text = UNIT.read_text()
    assert text.count(command) == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(command, f"ExecStart={shutil.which('true')} "))
    run = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
