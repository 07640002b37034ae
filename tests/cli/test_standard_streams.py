"""Commands whose standard streams are closed, full, of another encoding, or read by nobody: no
traceback, no abort.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import NO_TLS, PATIENCE_S, DevNest, data_directory, eventually, http, prepare

COMMAND = (sys.executable, "-m", "devnest")
HALF = b"\xff\xfe"  # no text in UTF-8
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def run(
    redirection: str, *command: str | bytes | Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a shell does."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *command],
        stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, **environment}, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Path]:
    """A data directory that is used by nobody."""
    with data_directory() as path:
        prepare(path)
        yield path


@pytest.mark.parametrize("command", ["--version", "serve --help", "keys rotate --data-dir {}"])
@pytest.mark.parametrize("redirection", CLOSED)
def test_what_is_closed_is_nowhere(tmp_path: Path, redirection: str, command: str) -> None:
    """The command does its work, and says it where it can."""
    done = run(redirection, *command.format(tmp_path).split())
    assert done.returncode == 0
    assert done.stderr == b""
    assert bool(done.stdout) == (">&-" not in redirection.split())
    assert "keys" not in command or (tmp_path / "signing-keys.json").exists()


@pytest.mark.parametrize("redirection", CLOSED)
def test_a_database_can_be_used_with_closed_streams(database: Path, redirection: str) -> None:
    """Its sockets are no standard streams, and PostgreSQL is started with its own."""
    done = run(redirection, "user", "disable", "nobody", "--data-dir", database)
    assert done.returncode == 2
    assert done.stderr in (b"devnest: no account is called nobody\n", b"")
    done = run(redirection, "user", "create", "ada", "ada@example.org", "--data-dir", database)
    assert done.returncode == 2, "standard input has no password"
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a file that is always full"
)
@pytest.mark.parametrize("command", ["--version", "serve --help", "keys rotate --data-dir {}"])
def test_an_output_that_is_full_is_told(tmp_path: Path, command: str) -> None:
    """In one line and by the status, once the work is done.

    Where it cannot be told, the status is left.
    """
    done = run(">/dev/full", *command.format(tmp_path).split())
    assert (done.returncode, done.stderr) == (
        1,
        b"devnest: the output could not be written: No space left on device\n",
    )
    assert "keys" not in command or (tmp_path / "signing-keys.json").exists()
    done = run(">/dev/full 2>&1", *command.format(tmp_path).split())
    assert done.returncode == 1


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    """As with `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "serve", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_that_another_process_made_non_blocking_is_written_whole() -> None:
    """As Node does with the terminal or pipe that it shares."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with subprocess.Popen([*COMMAND, "serve", "--help"], stdout=writer.fileno()) as process:
        writer.close()
        received = b"".join(iter(lambda: reader.recv(1000), b""))
        reader.close()
    assert process.returncode == 0
    assert received.rstrip().endswith("╯".encode())
    assert len(received) > 10_000


@pytest.mark.parametrize("redirection", [*CLOSED, ">/dev/full", "2>/dev/full", ">/dev/full 2>&1"])
def test_files_of_a_load_are_written_whatever_became_of_its_streams(
    devnest: DevNest, tmp_path: Path, redirection: str
) -> None:
    """They are what a run in a script is for."""
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("only Linux has a file that is always full")
    files = [f"--summary-export={tmp_path}/summary.json", f"--report={tmp_path}/report.html"]
    done = run(redirection, "load", devnest.url, "--vus=1", "--duration=1s", *files)
    assert done.returncode == (1 if redirection.startswith(">/dev/full") else 0), done.stderr
    assert json.loads((tmp_path / "summary.json").read_bytes())["metrics"]
    assert b"</html>" in (tmp_path / "report.html").read_bytes()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "environment", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_a_letter_that_the_terminal_lacks_is_no_failure(
    database: Path, environment: dict[str, str]
) -> None:
    """It becomes an escape; a name is read as it was typed."""
    assert run("", "serve", "--help", **environment).returncode == 0
    done = run("", "user", "disable", "zoë€", "--data-dir", database, **environment)
    assert done.returncode == 2
    letter = b"\xeb" if "latin-1" in environment.values() else rb"\xeb"
    assert done.stderr == b"devnest: no account is called zo" + letter + rb"\u20ac" + b"\n"


@pytest.mark.parametrize(
    "arguments", [["disable", HALF], ["create", HALF, "a@example.org"], ["create", "a", HALF]]
)
def test_an_argument_that_is_no_text_is_refused(
    database: Path, arguments: list[str | bytes]
) -> None:
    """Before anything is asked for it."""
    done = run("", "user", *arguments, "--data-dir", database)
    assert done.returncode == 2
    assert b"is no text" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_path_may_be_of_any_bytes(tmp_path: Path) -> None:
    """As file systems have it."""
    path = tmp_path / os.fsdecode(HALF)
    path.mkdir()
    assert run("", "keys", "rotate", "--data-dir", path).returncode == 0
    assert (path / "signing-keys.json").exists()


def test_a_password_that_is_no_text_is_refused(database: Path) -> None:
    """Rather than changed."""
    done = subprocess.run(
        [*COMMAND, "user", "create", "ada", "ada@example.org", "--data-dir", database],
        input=10 * HALF, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"no text in utf-8" in done.stderr


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_serve_runs_without_streams(data_dir: Path, redirection: str) -> None:
    """It answers, hashes, and ends when it is told to."""
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("only Linux has a file that is always full")
    prepare(data_dir)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    small = [
        f"--port={port}",
        f"--data-dir={data_dir}",
        "--processes=1",
        "--hash-workers=1",
        "--hash-cost=4",
    ]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, "serve", *small]
    )

    def is_ready() -> bool:
        assert process.poll() is None
        try:
            return http.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(is_ready)
        with httpx.Client(base_url=url, verify=NO_TLS, timeout=PATIENCE_S) as client:
            account = {
                "username": "ada",
                "email": "ada@example.org",
                "password": "correct horse battery",
            }
            assert client.post("/api/v1/auth/register", json=account).status_code == 201
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
