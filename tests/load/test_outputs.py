"""`--out`: the samples of a run as CSV, as JSON lines and as a Prometheus endpoint."""

import asyncio
import csv
import os
import re
import socket
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.load import Plan, constant, run
from devnest.load.exporter import Exporter
from devnest.load.messages import Second
from devnest.load.outputs import FileOutput
from devnest.load.tally import Tally
from tests.load.targets import DevNest, serving
from tests.load.test_command import load


def seconds_of(requests: int, ordinal: int = 0) -> Second:
    tally = Tally()
    for _ in range(requests):
        tally.request('a, "b"', 200, True, 0.25)
    return Second(ordinal, 1, 0.1, 1.0, 0.0, tally.take())


async def test_every_request_is_in_the_files(tmp_path: Path) -> None:
    """As often as in the summary, with the tags by which k6's users select them."""
    table, lines, summary = tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "s.json"
    begin = time.time()
    async with serving(DevNest()) as target:
        status, _, errors = await load(
            *(target.url, "--vus", "4", "--duration", "1200ms", "--set", "think_s=0.02"),
            *("--out", f"csv={table}", "--out", f"json={lines}", "--summary-export", str(summary)),
        )
    assert status == 0, errors
    metrics = msgspec.json.decode(summary.read_bytes())["metrics"]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counted = Counter(row["metric_name"] for row in rows)
    assert counted["http_reqs"] == counted["http_req_duration"] == metrics["http_reqs"]["count"]
    assert counted["iterations"] == metrics["iterations"]["count"]
    assert counted["checks"] == metrics["checks"]["passes"] + metrics["checks"]["fails"]
    assert {"vus", "data_sent", "data_received", "http_req_connecting"} <= set(counted)
    assert all(begin - 1 <= float(row["timestamp"]) <= time.time() + 1 for row in rows)
    durations = [row for row in rows if row["metric_name"] == "http_req_duration"]
    assert {row["name"] for row in durations} == {"register", "login", "post"}
    assert {row["status"] for row in durations} == {"200", "201"}
    mean = sum(float(row["metric_value"]) for row in durations) / len(durations)
    assert mean == pytest.approx(metrics["http_req_duration"]["avg"], abs=0.01)
    decoded = [msgspec.json.decode(line) for line in lines.read_bytes().splitlines()]
    points = [line for line in decoded if line["type"] == "Point"]
    assert Counter(line["metric"] for line in points) == counted
    declared = [line["metric"] for line in decoded if line["type"] == "Metric"]
    assert set(counted) <= set(declared)
    assert points[0]["data"]["tags"]["expected_response"] == "true"


def test_names_with_commas_and_quotes_stay_one_cell(tmp_path: Path) -> None:
    output = FileOutput("csv", tmp_path / "a.csv")
    output.second(seconds_of(5000), None)
    output.close()
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15_000
    assert {row["name"] for row in rows} == {'a, "b"'}
    assert output.failure == ""


def test_a_reader_that_takes_nothing_ends_the_output_and_not_the_run(tmp_path: Path) -> None:
    """What waits is bounded, and nobody waits for it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = FileOutput("json", path)
    for ordinal in range(200):
        output.second(seconds_of(300, ordinal), None)
    output.close()
    assert "it takes the samples too slowly; those after" in output.failure
    os.close(reader)  # the writer's thread ends by a broken pipe


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
async def test_a_full_disk_is_an_error_and_the_summary_is_printed() -> None:
    async with serving(DevNest()) as target:
        status, output, errors = await load(
            *(target.url, "--vus", "1", "--duration", "300ms"),
            *("--out", "csv=/dev/full", "--out", "prometheus=127.0.0.1:0"),
        )
    assert status == 1
    assert "devnest: cannot write /dev/full: No space left on device" in errors
    assert "http_reqs" in output
    assert re.search(r"for Prometheus: http://127\.0\.0\.1:[1-9]\d+/metrics\n", errors)


async def test_a_target_out_of_reach_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("of an earlier run")
    status, _, _ = await load("http://127.0.0.1:1", "--out", f"csv={tmp_path}/a.csv")
    assert status == 1
    assert (tmp_path / "a.csv").read_text() == "of an earlier run"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.csv"], "not an output: 'a.csv'"),
        (["--out", "xml=a"], "not an output: 'xml=a'"),
        (["--out", "csv="], "not an output: 'csv='"),
        (["--out", "csv=/no/such/folder/a.csv"], "cannot write /no/such/folder/a.csv"),
        (["--out", "json=/"], "cannot write /"),
        (["--out", "csv=same", "--out", "json=./same"], "name the same file: same"),
        (["--out", "csv=same", "--report", "same"], "--report and --out name the same file"),
        (["--out", "prometheus=9091"], "not an address: '9091'"),
        (["--out", "prometheus=127.0.0.1:99999"], "not an address"),
        (["--out", "prometheus=192.0.2.1:9091"], "cannot listen on 192.0.2.1:9091"),
    ],
)
def test_a_wrong_output_is_told_in_a_line_before_anything_is_sent(
    arguments: list[str], words: str
) -> None:
    result = CliRunner().invoke(app, ["load", "http://127.0.0.1:1", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.startswith("devnest: ")
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(
            app, ["load", "http://127.0.0.1:1", "--out", f"prometheus={where}"]
        )
    assert result.exit_code == 2
    assert result.stderr.startswith(f"devnest: cannot listen on {where}: ")
    assert "already in use" in result.stderr
    assert result.stderr.count("\n") == 1


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_prometheus_gets_the_running_totals() -> None:
    """While the run lasts, and exactly what the run counted so far."""
    exporter = Exporter.parse("127.0.0.1:0")
    await exporter.open()
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    seen: list[int] = []
    async with serving(DevNest()) as target:
        running = asyncio.create_task(
            run(Plan(target.url, stages=constant(2, 2.2)), outputs=[exporter])
        )
        while not running.done():
            page = (await ask(exporter.port, request)).decode()
            counts = re.findall(r"http_req_duration_seconds_count\{.*\} (\d+)", page)
            seen.append(sum(map(int, counts)))
            await asyncio.sleep(0.1)
        result = await running
    page = (await ask(exporter.port, request)).decode()
    await exporter.close()
    assert seen == sorted(seen)
    assert 0 < next(filter(None, seen)) < result.requests
    counts = re.findall(r"http_req_duration_seconds_count\{.*\} (\d+)", page)
    assert sum(map(int, counts)) == result.requests
    assert re.search(r"^devnest_load_vus \d+$", page, re.MULTILINE)
    within = [int(count) for count in re.findall(r'name="post".*le="[^"]+"\} (\d+)', page)]
    assert within == sorted(within)
    assert within[-1] == result.trend("post").count


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"\r\n\r\n", b"404 Not Found"),
        (b"x" * 100_000, b""),
    ],
)
async def test_a_strange_request_harms_nothing(request_: bytes, words: bytes) -> None:
    exporter = Exporter.parse("127.0.0.1:0")
    await exporter.open()
    try:
        answer = await ask(exporter.port, request_)
    except ConnectionError:
        answer = b""
    assert words in answer
    again = await ask(exporter.port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert b"devnest_load_vus 0" in again
    await exporter.close()


async def test_a_client_that_says_nothing_does_not_outlive_the_run() -> None:
    exporter = Exporter.parse("127.0.0.1:0")
    await exporter.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", exporter.port)
    await asyncio.sleep(0.05)
    await exporter.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
