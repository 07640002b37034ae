"""The log: one short line for each request on a terminal, and one JSON object elsewhere."""

import json
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

PROGRAM = """
import sys
import structlog
from devnest.logs import configure_logging, request_log
from devnest.streams import move_to_background

if sys.argv[2] == "background":
    move_to_background()
configure_logging(sys.argv[1])
log = request_log()
structlog.contextvars.bind_contextvars(request_id="0123456789abcdef0123456789abcdef")
log.info("request", method="GET", path="/posts/\\x1b[2J\\n \\u00fc", status=200, elapsed_ms=12.3)
"""
LINE = r"\d\d:\d\d:\d\d 200 GET /posts/%1B%5B2J%0A%20%C3%BC 12\.3 ms"
REQUEST_ID = "0123456789abcdef0123456789abcdef"


def log_of(stderr: int, level: str, kind: str) -> None:
    """Run the program with this standard error."""
    subprocess.run([sys.executable, "-c", PROGRAM, level, kind], stderr=stderr, check=True)


def on_terminal(columns: int, level: str = "info", kind: str = "direct") -> str:
    """What the program writes to a terminal of this width."""
    screen, terminal = pty.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, columns))
        log_of(terminal, level, kind)
        os.write(terminal, b"end\n")
        written = b""
        while not written.endswith(b"end\r\n"):
            written += os.read(screen, 4096)
    finally:
        os.close(screen)
        os.close(terminal)
    return written.decode("ascii").removesuffix("end\r\n")


@pytest.mark.parametrize("kind", ["direct", "background"])
@pytest.mark.parametrize("columns", [0, 120])
def test_a_request_is_one_short_line_on_a_terminal(columns: int, kind: str) -> None:
    """Time, status, method, path and milliseconds, then its id; no control character is written."""
    assert re.fullmatch(f"{LINE} {REQUEST_ID}\r\n", on_terminal(columns, kind=kind))


def test_a_request_id_that_does_not_fit_is_left_out() -> None:
    """The line stays one line of the terminal."""
    assert re.fullmatch(f"{LINE}\r\n", on_terminal(80))


def test_no_request_is_logged_below_its_level() -> None:
    """`--log-level warning` leaves requests out."""
    assert on_terminal(80, level="warning") == ""


@pytest.mark.parametrize("kind", ["direct", "background"])
def test_a_request_is_a_json_object_elsewhere(kind: str) -> None:
    """With all its fields, in the form of every other line."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as lines:
        try:
            log_of(writer, "info", kind)
        finally:
            os.close(writer)
        (line,) = lines.readlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "request",
        "level": "info",
        "logger": "devnest.api.access",
        "method": "GET",
        "path": "/posts/\x1b[2J\n ü",
        "status": 200,
        "elapsed_ms": 12.3,
        "request_id": REQUEST_ID,
    }
