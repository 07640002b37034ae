"""What workers write, in the log of their parent."""

import asyncio
import logging
import os
import sys
import time

import pytest

from devnest.pool import InvalidTask, Pool, WorkerCrashed
from devnest.pool.runtime.output import MAX_LINE_BYTES, MAX_LINES_PER_S

SAFETY_S = 60.0


def write(out: bytes, err: bytes = b"") -> None:
    os.write(1, out)
    os.write(2, err)


def say(text: str) -> None:
    print(text)  # noqa: T201


def flood(lines: int) -> None:
    for _ in range(lines // 1000):
        sys.stdout.write("x\n" * 1000)


def write_and_die(out: bytes) -> None:
    os.write(1, out)
    os._exit(3)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return levels and texts of the lines, without the worker's number."""
    return [
        (record.levelno, record.getMessage().partition(": ")[2])
        for record in caplog.records
        if record.name == "devnest.pool.worker"
    ]


async def run(
    caplog: pytest.LogCaptureFixture, *calls: tuple[object, ...]
) -> list[tuple[int, str]]:
    """Run calls in one worker, one after the other, and return the lines."""
    caplog.set_level(logging.INFO, "devnest.pool.worker")
    async with Pool(1, worker_output="log") as pool:
        for func, *args in calls:
            await pool.run(func, *args)  # type: ignore[arg-type]
    return lines_of(caplog)


async def test_lines_of_both_streams(caplog: pytest.LogCaptureFixture) -> None:
    """With their levels; the last needs no newline."""
    lines = await run(caplog, (write, b"one\ntwo\r\n\nthr", b"error\n"), (write, b"ee\nlast"))
    assert [text for level, text in lines if level == logging.INFO] == [
        "one", "two", "", "three", "last",
    ]  # fmt: skip
    assert [text for level, text in lines if level == logging.WARNING] == ["error"]


async def test_a_printed_line_arrives_while_the_worker_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not when it ends, or its buffer is full."""
    caplog.set_level(logging.INFO, "devnest.pool.worker")
    async with Pool(1, worker_output="log") as pool:
        await pool.run(say, "now")
        give_up_at = time.monotonic() + SAFETY_S
        while lines_of(caplog) != [(logging.INFO, "now")]:
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.001)


async def test_bytes_that_are_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """They are escaped, and so are control characters: no text can pretend to be another line."""
    lines = await run(caplog, (write, b"\xff\x00\x1b[31mred\rx\tend\n"))
    assert lines == [(logging.INFO, r"\xff\x00\x1b[31mred\rx" + "\tend")]


async def test_a_line_without_end(caplog: pytest.LogCaptureFixture) -> None:
    """It is cut, and the next one is whole."""
    lines = await run(caplog, (say, "y" * 1_000_000), (say, "next"))
    assert lines == [(logging.INFO, "y" * MAX_LINE_BYTES + "…"), (logging.INFO, "next")]


async def test_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    """The worker does not wait for the log, whose lines are few; none is lost without a count."""
    began = time.monotonic()
    lines = await run(caplog, (flood, 500_000))
    seconds = int(time.monotonic() - began) + 2
    dropped = [int(text.split()[0]) for _, text in lines if text.endswith("were dropped")]
    logged = [text for _, text in lines if text == "x"]
    assert len(logged) <= MAX_LINES_PER_S * seconds
    assert len(logged) + sum(dropped) == 500_000


async def test_the_last_words_of_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    """What it wrote before it died is there."""
    caplog.set_level(logging.INFO, "devnest.pool.worker")
    async with Pool(1, worker_output="log") as pool:
        with pytest.raises(WorkerCrashed):
            await pool.run(write_and_die, b"reason\nhalf")
    assert [text for _, text in lines_of(caplog)] == ["reason", "half"]


async def test_inherited_and_discarded(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The streams of this process, or nowhere."""
    for output in ("inherit", "discard"):
        async with Pool(1, worker_output=output) as pool:
            await pool.run(say, output)
    assert capfd.readouterr().out == "inherit\n"
    assert lines_of(caplog) == []


def test_options() -> None:
    """A name that does not exist, and threads, which have no streams of their own."""
    for options in ({"worker_output": "file"}, {"kind": "thread", "worker_output": "log"}):
        with pytest.raises(InvalidTask, match="worker_output"):
            Pool(1, **options)  # type: ignore[arg-type]
