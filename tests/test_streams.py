"""A stream whose reader stands still, goes away or is full stops nobody, and tells what it lost."""

import fcntl
import gc
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devnest import streams
from devnest.streams import BackgroundStream
from tests.support import PATIENCE_S, eventually

LINE = b"x" * 199 + b"\n"
PIPE_BYTES = 64 * 1024  # what Linux keeps for a pipe's reader


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine loses no line here."""
    monkeypatch.setattr(streams, "MAX_CLOSE_S", PATIENCE_S)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends, closed afterwards where a test did not."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@pytest.fixture
def made() -> Iterator[Callable[[int], BackgroundStream]]:
    """Make streams that are closed afterwards."""
    all_made: list[BackgroundStream] = []

    def make(fd: int) -> BackgroundStream:
        all_made.append(BackgroundStream(fd))
        return all_made[-1]

    yield make
    for stream in all_made:
        stream.close_soon()


def read_all(fd: int) -> bytes:
    """All that comes until the writers have gone."""
    return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))


def test_what_is_written_comes_in_order(
    pipe: tuple[int, int], made: Callable[[int], BackgroundStream]
) -> None:
    """Text and bytes, whole and in pieces, also what waits when it is closed."""
    stream = made(pipe[1])
    print("one", 1, file=stream)
    stream.put(b"two\n")
    stream.write("thr")
    stream.write("ee €\n")
    for number in range(4, 3000):
        stream.put(b"%d\n" % number)
        if number == 1000:
            stream.close_soon()
            assert os.read(pipe[0], PIPE_BYTES) == "one 1\ntwo\nthree €\n".encode() + b"".join(
                b"%d\n" % n for n in range(4, 1001)
            )
    assert stream.dropped == 0


@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_reader_that_stands_still_stops_nobody(
    pipe: tuple[int, int],
    made: Callable[[int], BackgroundStream],
    monkeypatch: pytest.MonkeyPatch,
    non_blocking: bool,
) -> None:
    """What finds no room is counted, and told when it reads on; no line is torn.

    The pipe may be non-blocking.
    """
    monkeypatch.setattr(streams, "MAX_BUFFERED_BYTES", 1000 * len(LINE))
    if non_blocking:
        fcntl.fcntl(pipe[1], fcntl.F_SETFL, fcntl.fcntl(pipe[1], fcntl.F_GETFL) | os.O_NONBLOCK)
    stream = made(pipe[1])
    stream.on_dropped = lambda lines: stream.put(b"dropped %d\n" % lines)
    count = 10_000
    for _ in range(count):
        stream.put(LINE)
    assert stream.dropped >= count - 2000 - PIPE_BYTES // len(LINE)
    received = b""
    while b"dropped" not in received:
        received += os.read(pipe[0], 1 << 20)
    *whole, told, rest = received.split(b"\n")
    assert whole == [LINE.rstrip()] * len(whole)
    assert told == b"dropped %d" % (count - len(whole))
    assert rest == b""


def failing(kind: str, pipe: tuple[int, int]) -> int:
    """A descriptor whose writes fail."""
    if kind == "full":
        if not Path("/dev/full").exists():
            pytest.skip("only Linux has a file that is always full")
        os.dup2(os.open("/dev/full", os.O_WRONLY), pipe[1])
    os.close(pipe[0])
    if kind == "closed":
        os.close(pipe[1])
    return pipe[1]


@pytest.mark.parametrize("kind", ["reader gone", "full", "closed"])
def test_a_write_that_fails_is_counted(
    pipe: tuple[int, int], made: Callable[[int], BackgroundStream], kind: str
) -> None:
    """Nothing is raised."""
    stream = made(failing(kind, pipe))
    for _ in range(100):
        print("line", file=stream, end="\n\n")
        stream.put(LINE)
    eventually(lambda: stream.dropped >= 200)


def test_a_line_cut_by_a_full_disk_spoils_no_other(
    tmp_path: Path, made: Callable[[int], BackgroundStream]
) -> None:
    """Once there is room again the next line begins on a line of its own."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "log"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stream = made(fd)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINE) * 3 // 2, limits[1]))
        for dropped in (0, 1, 2):
            stream.put(LINE)
            eventually(lambda: path.stat().st_size >= len(LINE) and stream.dropped >= dropped)  # noqa: B023
        assert path.stat().st_size == len(LINE) * 3 // 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    stream.put(b"next\n")
    stream.close_soon()
    os.close(fd)
    assert path.read_bytes().split(b"\n") == [LINE.rstrip(), LINE[: len(LINE) // 2], b"next", b""]


def test_a_stopped_terminal_stops_nobody(made: Callable[[int], BackgroundStream]) -> None:
    """Ctrl-S; and Ctrl-Q brings what waits."""
    screen, terminal = pty.openpty()
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    stream = made(terminal)
    assert stream.isatty()
    termios.tcflow(terminal, termios.TCOOFF)
    for _ in range(1000):
        stream.put(LINE)
    termios.tcflow(terminal, termios.TCOON)
    received = 0
    while received < 1000 * len(LINE):
        received += len(os.read(screen, 1 << 16))
    stream.close_soon()
    os.close(terminal)
    os.close(screen)


IN_BACKGROUND = """
import os, signal, subprocess, sys, termios
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)  # it becomes this session's
attributes = termios.tcgetattr(terminal)
attributes[3] |= termios.TOSTOP
termios.tcsetattr(terminal, termios.TCSANOW, attributes)
writer = "import sys; from devnest.streams import move_to_background; move_to_background(); print('written')"
background = subprocess.Popen([sys.executable, "-c", writer], stdout=terminal, process_group=0)
_, status = os.waitpid(background.pid, os.WUNTRACED)
sys.exit(0 if status == 0 else 1)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="another system makes a terminal a session's own way"
)
def test_a_process_in_the_background_of_its_terminal_writes_and_is_not_stopped() -> None:
    """Where `stty tostop` would have it stopped by SIGTTOU, which to a supervisor means one
    server fewer.
    """
    screen, terminal = pty.openpty()
    run = subprocess.run(
        [sys.executable, "-c", IN_BACKGROUND, os.ttyname(terminal)], timeout=PATIENCE_S, check=False
    )
    assert run.returncode == 0
    assert os.read(screen, 100) == b"written\r\n"
    os.close(terminal)
    os.close(screen)


STUCK = """
import sys
from devnest.streams import move_to_background
move_to_background()
print("x" * 1_000_000, file=sys.stderr)
print("ready")
"""


def test_a_process_ends_though_its_log_is_not_read(pipe: tuple[int, int]) -> None:
    """After two seconds; what it wrote elsewhere has come."""
    run = subprocess.run(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        stderr=pipe[1],
        timeout=PATIENCE_S,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, b"ready\n")


LINES = """
import sys
from devnest import streams
streams.MAX_CLOSE_S = 120
streams.move_to_background()
for _ in range(3000):
    sys.stdout.write(sys.argv[1] * 300 + "\\n")
"""


def test_lines_of_several_processes_are_not_mixed(pipe: tuple[int, int]) -> None:
    """They share a pipe whose reader is slower than they are."""
    writers = [
        subprocess.Popen([sys.executable, "-c", LINES, letter], stdout=pipe[1]) for letter in "abc"
    ]
    os.close(pipe[1])
    received = b""
    while piece := os.read(pipe[0], 8192):
        received += piece
        if len(received) < 20 * PIPE_BYTES:
            time.sleep(0.001)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = received.splitlines()
    assert len(lines) == 9000
    assert {line for line in lines if len(set(line)) != 1 or len(line) != 300} == set()


def test_a_finalizer_may_log(
    pipe: tuple[int, int], made: Callable[[int], BackgroundStream]
) -> None:
    """Whenever the collector runs it, also within a write."""
    stream = made(pipe[1])

    class Loud:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            stream.put(b"gone\n")

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(1000):
            Loud()
            stream.put(b"line\n")
    finally:
        gc.set_threshold(*before)
    gc.collect()
    stream.close_soon()
    lines = os.read(pipe[0], PIPE_BYTES).splitlines()
    assert (lines.count(b"line"), lines.count(b"gone"), len(lines)) == (1000, 1000, 2000)


def test_without_a_thread_lines_are_dropped_until_there_is_one(
    pipe: tuple[int, int], made: Callable[[int], BackgroundStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads count as processes to the limits of a container."""
    stream = made(pipe[1])

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        stream.put(b"lost\n")
        stream.put(b"lost\n")
    assert stream.dropped == 2
    stream.put(b"written\n")
    assert os.read(pipe[0], 100) == b"written\n"


def test_a_terminal_that_lacks_a_letter_gets_its_number(pipe: tuple[int, int]) -> None:
    """Half a surrogate pair, too."""
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = BackgroundStream(pipe[1], encoding)
        stream.write("é€\ud800\n")
        stream.close_soon()
    expected = [rb"\xe9\u20ac\ud800", b"\xe9" + rb"\u20ac\ud800", "é€".encode() + rb"\ud800"]
    assert os.read(pipe[0], 100).splitlines() == expected
