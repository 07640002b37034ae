"""`devnest bench` with real designs: Ctrl-C, `--resume`, and designs that fail."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.experiment import Session
from tests.experiment.results import measured, session
from tests.support import PATIENCE_S, data_directory, eventually

STAGES = "500ms:10,1500ms:10,200ms:0"
SHORT = ("--stages", STAGES, "--hash-cost", "4", "--runs", "1")
COMMAND = (sys.executable, "-c", "from devnest.cli import main; main()", "bench")
PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
PEER = """
title = "Peer"
needs = [{needs}]
pins = ["peer.toml"]
install = []
start = ["{python}", "server.py"]
ready = "/healthz"
[variants.only]
title = "{name}"
environment = {{}}
"""
BROKEN = "print('no colour is set')\nraise SystemExit(3)\n"
DIES = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"items": [], "next_cursor": null}')
    def do_POST(self):
        print("out of luck", flush=True)
        os._exit(7)
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A working directory whose `t` is for temporary files; a PostgreSQL of root can reach it."""
    with data_directory() as path:
        path.mkdir(mode=0o711)
        path.chmod(0o711)
        (path / "t").mkdir(mode=0o711)
        (path / "t").chmod(0o711)
        yield path


def environment(place: Path) -> dict[str, str]:
    # The designs must not take DEVNEST_ variables from the user's shell.
    return {**os.environ, "TMPDIR": str(place / "t"), "DEVNEST_HASHING": "nonsense"}


def bench(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *SHORT, *arguments],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str], words: str) -> str:
    """Return all lines up to the one with `words`."""
    lines = []
    for line in stream:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"ended without {words!r}: {''.join(lines)}")


def processes_of_a_design(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait for a child of the guard, and return all processes that the command has started."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        assert process.poll() is None
        found[:] = psutil.Process(process.pid).children(recursive=True)
        return len(found) > 1

    eventually(is_there)
    return found


def test_an_interrupted_session_can_be_resumed(place: Path) -> None:
    """Ctrl-C keeps the finished runs and stops every process; `--resume` does the other runs."""
    first = bench(place, "--designs", "inline,pool")
    assert first.stderr is not None
    read_until(first.stderr, "DevNest, pool with lanes (after), run 1 (1 left, about ")
    started = processes_of_a_design(first)
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130, errors
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []
    assert list((place / "t").iterdir()) == []
    assert "continue with: devnest bench --resume devnest-bench.json" in errors
    assert "DevNest, inline, one process (before)" in output
    kept = Session.load(place / "devnest-bench.json")
    assert [run.design for run in kept.runs] == ["inline"]

    (place / "page.md").write_text(
        "<!-- devnest bench: experiment -->\n<!-- /devnest bench: experiment -->\n"
    )
    files = ("--resume", "devnest-bench.json", "--report", "report.html", "--write-docs", "page.md")
    second = subprocess.run(
        [*COMMAND, *files],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 0, second.stderr
    whole = Session.load(place / "devnest-bench.json")
    assert whole.runs[0] == kept.runs[0]
    assert [run.design for run in whole.runs] == ["inline", "pool"]
    for run in whole.runs:
        assert {"register", "login", "post"} <= set(run.routes)
        assert (run.failed, run.failed_checks) == (0, 0)
    assert "times the requests per second" in second.stdout
    assert "requests per second\nbefore  █" in second.stdout
    assert "compare these figures only with each other" in second.stdout
    for page in ("page.md", "report.html"):
        text = (place / page).read_text()
        assert "DevNest, pool with lanes (after)" in text
        assert "compare these figures only with each other" in text
    assert list((place / "t").iterdir()) == []


def test_interrupted_before_the_first_run_there_is_nothing_to_resume(place: Path) -> None:
    """The message then names no file, because none exists."""
    process = bench(place, "--designs", "inline")
    processes_of_a_design(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "nothing was measured" in errors
    assert "--resume" not in errors
    assert not (place / "devnest-bench.json").exists()


def test_the_live_page_of_a_session_can_stop_it(place: Path) -> None:
    """Its button does what Ctrl-C does, also while a design starts."""
    process = bench(
        place, "--designs", "inline", "--dashboard", "--dashboard-address", "127.0.0.1:0"
    )
    assert process.stderr is not None
    line = read_until(process.stderr, "http://127.0.0.1:")
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None
    started = processes_of_a_design(process)
    page = httpx.get(found[0]).text
    token = re.search(r'data-token="([^"]+)"', page)
    assert token is not None
    assert httpx.post(f"{found[0]}/stop").status_code == 403
    headers = {"X-Dashboard-Token": token[1]}
    assert httpx.post(f"{found[0]}/vus", json={"vus": 3}, headers=headers).status_code == 409
    assert httpx.post(f"{found[0]}/stop", headers=headers).is_success
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []
    assert list((place / "t").iterdir()) == []


def test_all_designs_run_on_the_postgresql_that_was_named(place: Path) -> None:
    """This includes DevNest's own designs: all must run on the same PostgreSQL."""
    process = bench(place, "--designs", "inline", "--postgres-bin", "/nonexistent")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "/nonexistent/initdb does not run" in errors


def test_nothing_is_left_after_a_kill(place: Path) -> None:
    """The guard sees the end of its input, however `devnest bench` ended."""
    process = bench(place, "--designs", "inline")
    started = processes_of_a_design(process)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []
    assert list((place / "t").iterdir()) == []


def test_a_design_that_fails_is_reported_and_the_others_run(place: Path) -> None:
    """One does not start, one is not installed, one exits under load; the exit status is 1."""
    peers = place / "benchmarks" / "peers"
    peers.mkdir(parents=True)
    shutil.copy(PEERS / "start.py", peers)
    for name, needs, program in (
        ("broken", "", BROKEN),
        ("absent", '"no-such-program"', ""),
        ("dies", "", DIES),
    ):
        (peers / name).mkdir()
        (peers / name / "peer.toml").write_text(
            PEER.format(name=name, needs=needs, python=sys.executable)
        )
        (peers / name / "server.py").write_text(program)
    process = bench(place, "--designs", "broken-only,absent-only,dies-only")
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, errors
    assert (
        "failed: the server did not start: it exited with status 3\n    no colour is set\n"
        in errors
    )
    assert "skipped: not installed here: no-such-program\n" in errors
    assert "failed: the server exited during the run with status 7\n    out of luck\n" in errors
    assert output.count("Peer, ") == 3
    troubles = Session.load(place / "devnest-bench.json").troubles
    assert [trouble.kind for trouble in troubles] == ["failed", "skipped", "failed"]
    assert list((place / "t").iterdir()) == []
    assert not (place / "devnest-bench.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--designs", "inline,nope"],
            "unknown design 'nope'; the designs are inline, thread, pool-one-lane, pool",
        ),
        (["--designs", ","], "--designs names no design"),
        (["--json", "/no/such/folder/x.json"], "cannot write /no/such/folder/x.json"),
        (["--report", "/no/such/folder/x.html"], "cannot write /no/such/folder/x.html"),
        (["--json", "same", "--report", "same"], "name the same file"),
        (["--write-docs", "empty.md"], "empty.md has no section to write"),
        (["--resume", "none.json"], "cannot read none.json"),
        (["--resume", "empty.md"], "empty.md holds no session"),
        (["--resume", "whole.json", "--runs", "4"], "leave out --profile"),
        (["--resume", "whole.json", "--demo"], "and --demo"),
        (["--demo", "--runs", "2"], "--demo has its own load and designs: leave out --profile"),
        (["--demo", "--hash-cost", "4"], "--demo has its own load and designs"),
        (["--stages", "10"], "10"),
        (["--stages", "10s:999999"], "999"),
        (["--summary", "/no/such/folder/x.md"], "cannot write /no/such/folder/x.md"),
        (["--junit", "same", "--summary", "./same"], "name the same file"),
        (["--resume", "elsewhere.json"], "measured on another machine"),
        (["--json", "unfinished.json"], "unfinished.json holds an unfinished session"),
    ],
)
def test_a_wrong_option_is_reported_before_anything_starts(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.md").touch()
    measured().save(tmp_path / "whole.json")
    session().save(tmp_path / "elsewhere.json")
    session().save(tmp_path / "unfinished.json")
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_port_in_use_is_reported_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["bench", "--port", str(port)])
    assert result.exit_code == 2
    assert result.stderr == f"devnest: port {port} of 127.0.0.1: Address already in use\n"


def test_a_whole_session_is_shown_again_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This works on another machine than the one that measured it, too."""
    monkeypatch.chdir(tmp_path)
    measured().save(tmp_path / "whole.json")
    result = CliRunner().invoke(app, ["bench", "--resume", "whole.json", "--report", "again.html"])
    assert result.exit_code == 0, result.stderr
    assert "Before | <b>" in result.stdout
    assert "0.10 times the p95" in result.stdout
    assert (tmp_path / "again.html").exists()
