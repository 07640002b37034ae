"""`devnest load` as a person runs it: a process, its output, its files, its exit status."""

import asyncio
import io
import os
import pty
import re
import resource
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.cli.files import refuse_unwritable
from devnest.load import BadPlan, Result
from devnest.load.progress import Progress
from devnest.load.result import Point
from tests.load.targets import DevNest, serving

COMMAND = (sys.executable, "-c", "from devnest.cli import main; main()", "load")


async def load(*arguments: str, descriptors: int | None = None) -> tuple[int, str, str]:
    """Run the command to its end: exit status, standard output, standard error."""

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors // 2, descriptors))

    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limit,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_a_run_prints_its_summary_and_writes_its_files(tmp_path: Path) -> None:
    """Counts on standard output, progress on standard error, JSON and HTML where asked."""
    json, html = tmp_path / "summary.json", tmp_path / "report.html"
    async with serving(DevNest()) as target:
        status, output, errors = await load(
            target.url,
            *("--stages", "500ms:10,700ms:10", "--set", "think_s=0.05", "--seed", "3"),
            *("--summary-export", str(json), "--report", str(html)),
            *(
                "--threshold",
                "http_req_failed: rate<0.01",
                "--threshold",
                "http_req_duration{name:login}: p(95)<9000",
            ),
        )
    assert status == 0, errors
    for name in (
        "http_reqs",
        "http_req_duration",
        "http_req_failed",
        "iterations",
        "vus",
        "checks",
        "data_received",
    ):
        assert re.search(rf"^{name}\.+:", output, re.MULTILINE)
    assert re.search(r"^register +\d", output, re.MULTILINE)
    assert "✓ http_req_failed: rate<0.01" in output
    assert msgspec.json.decode(json.read_bytes())["devnest"]["seed"] == 3
    assert target.url in html.read_text()


async def test_a_failed_threshold_is_exit_99() -> None:
    async with serving(DevNest()) as target:
        status, output, _ = await load(
            *(
                target.url,
                "--vus",
                "1",
                "--duration",
                "500ms",
                "--threshold",
                "http_reqs: count>1000000",
            )
        )
    assert status == 99
    assert "✗ http_reqs: count>1000000" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_ends_with_its_summary(number: signal.Signals) -> None:
    """Status 130, and no generator process is left."""
    async with serving(DevNest()) as target:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, target.url, "--vus", "3", "--duration", "60s"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.wait_for(target.visited.wait(), 30)
        process.send_signal(number)
        output, _ = await process.communicate()
    assert process.returncode == 130
    assert b"stopped before its end" in output
    assert b"http_reqs" in output


async def test_a_terminal_gets_live_progress() -> None:
    """On a terminal one line is drawn over and over, with how far the run is."""
    ours, theirs = pty.openpty()
    async with serving(DevNest()) as target:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, target.url, "--vus", "2", "--duration", "1200ms"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(theirs)
        shown = bytearray()
        loop = asyncio.get_running_loop()
        while True:
            try:
                piece = await loop.run_in_executor(None, os.read, ours, 65536)
            except OSError:  # Linux's end of a terminal
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        assert await process.wait() == 0
    assert "s left" in shown.decode()
    assert "req/s" in shown.decode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--report", "/no/such/folder/report.html"], "cannot write /no/such/folder/report.html"),
        (["--summary-export", "/"], "cannot write /"),
        (["--report", "same", "--summary-export", "same"], "name the same file"),
        (["--stages", "10s:0"], "peak at 0 VUs"),
        (["--stages", "10s:5", "--vus", "3"], "--stages says it all"),
        (["--vus", "3"], "--vus and --duration go together"),
        (["--rate", "3"], "--rate needs --duration"),
        (["--rate", "nan", "--duration", "1s"], "a rate of nan a second"),
        (["--rate", "inf", "--duration", "1s"], "a rate of inf a second"),
        (["--threshold", "p(95)<3"], "not a threshold"),
        (["--set", "think_s"], "write --set name=value"),
        (["--set", "think_s=nan"], "the setting think_s is a finite number, not 'nan'"),
        (["--set", "think_s=-inf"], "the setting think_s is a finite number"),
        (["--profile", "flood", "--vus", "3", "--duration", "3s"], "makes its own schedule"),
    ],
)
def test_a_wrong_option_is_told_in_a_line_before_anything_is_sent(
    arguments: list[str], words: str
) -> None:
    """Before the target is so much as looked for: nobody listens there."""
    result = CliRunner().invoke(app, ["load", "http://127.0.0.1:1", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.startswith("devnest: ")
    assert result.stderr.count("\n") == 1


def test_without_a_terminal_there_is_a_line_every_five_seconds() -> None:
    stream = io.StringIO()
    result = Result(url="http://127.0.0.1:1", profile="experiment", generators=1, seed=1)
    result.prepared["accounts"] = 50
    with Progress(stream, 10) as progress:
        progress.prepared(result)
        for second in range(10):
            progress.second(
                result, Point(second, vus=7, requests_per_s=12.34, wall_s=1, p95_ms=56.78)
            )
    prepared, *lines = stream.getvalue().splitlines()
    assert prepared == "prepared: accounts 50.0"
    assert [" ".join(line.split()[:5]) for line in lines] == ["5 s 7 VUs 12.3", "10 s 7 VUs 12.3"]
    assert [line.split("  ")[-1] for line in lines] == ["5 s left", "0 s left"]


async def test_too_few_file_descriptors_are_told_with_the_remedy() -> None:
    """The soft limit is raised by itself; a hard limit that is too low is said before the run."""
    async with serving(DevNest()) as target:
        enough = await load(target.url, "--vus", "150", "--duration", "500ms", descriptors=256)
        too_few = await load(target.url, "--vus", "500", "--duration", "500ms", descriptors=256)
    assert enough[0] == 0, enough[2]
    assert too_few[0] == 2
    assert "need 564 file descriptors each, the limit is 256" in too_few[2]
    assert "ulimit -Hn 564" in too_few[2]
    assert "--generators 3" in too_few[2]


async def test_a_remedy_that_would_not_do_is_not_given() -> None:
    """No number of generators is enough where none may have more than its own files, and 64 are
    the most.
    """
    for descriptors, vus in ((60, 30), (100, 5000)):
        status, _, errors = await load(
            "http://127.0.0.1:1", "--vus", str(vus), "--duration", "1s", descriptors=descriptors
        )
        assert status == 2
        assert "ulimit -Hn" in errors
        assert "--generators" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
async def test_a_file_that_cannot_be_written_does_not_take_the_other_along(tmp_path: Path) -> None:
    """A full disk, at the end of a run: exit 1 with the file's name, and the report is there."""
    html = tmp_path / "report.html"
    async with serving(DevNest()) as target:
        files = ("--summary-export", "/dev/full", "--report", str(html))
        status, _, errors = await load(target.url, "--vus", "1", "--duration", "300ms", *files)
    assert status == 1
    assert "cannot write /dev/full: No space left" in errors
    assert html.stat().st_size > 1000


def test_a_pipe_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    """Opened as usual it would wait for a reader for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadPlan, match="cannot write"):
        refuse_unwritable(tmp_path / "pipe")


async def test_an_unreachable_target_is_one_line() -> None:
    status, output, errors = await load("http://127.0.0.1:1")
    assert (status, output) == (1, "")
    assert (
        errors == "devnest: cannot connect to http://127.0.0.1:1 (127.0.0.1: Connection refused)\n"
    )
