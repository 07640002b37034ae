"""What a run says about its figures: in one unit, and with the reason where they are bad."""

import asyncio
import os
import re
import sys
from array import array
from pathlib import Path

import pytest

from devnest.load import Result
from devnest.load.messages import Second
from devnest.load.neighbours import Neighbours
from devnest.load.summary import exported, milliseconds, notices, summary
from devnest.load.tally import Tally


def result_of(tally: Tally) -> Result:
    result = Result(url="http://127.0.0.1:1", profile="experiment", generators=1, seed=1)
    result.absorb(0, Second(0, 3, 0.1, 1.0, 0.0, tally.take()))
    result.finish()
    return result


def seen(*, before: float = 0.0, during: float | None = None, stolen: float = 0.0) -> Neighbours:
    neighbours = Neighbours("127.0.0.1")
    neighbours.before, neighbours.during, neighbours.stolen = before, during, stolen
    return neighbours


def test_all_durations_have_one_unit() -> None:
    """From microseconds to minutes, in the metrics, the table and the notices."""
    tally = Tally()
    for seconds in (0.000_004, 0.0042, 0.42, 4.2, 61.0):
        tally.request("route", 200, True, seconds)
        tally.iterations.append(seconds)
    text = summary(result_of(tally))
    assert not re.search(r"\dµs|\d(?<!m)s\b", text.replace("1.0 s in all", ""))
    assert "max=61,000ms" in text
    table = next(line for line in text.splitlines() if line.startswith("route  "))
    assert [word for word in table.split() if word == "ms"] == ["ms"] * 6
    assert [milliseconds(value) for value in (0.004, 4.2, 420, 4200)] == [
        "0.00ms",
        "4.20ms",
        "420.0ms",
        "4,200ms",
    ]


def test_503_is_explained() -> None:
    tally = Tally()
    tally.request("login", 503, False, 0.1)
    tally.request("attack", 503, True, 0.1)  # the flood expects it
    assert [line for line in notices(result_of(tally)) if "503" in line] == [
        "1 answers were 503: the target had more work than it could do in time, and refused what "
        "would have waited too long. Send less, give it more cores, or let it hash at a lower "
        "--hash-cost."
    ]


def test_dropped_iterations_are_explained() -> None:
    tally = Tally()
    tally.dropped = 1200
    tally.iterations = array("d", [0.1] * 300)
    assert notices(result_of(tally)) == [
        "1,200 of 1,500 iterations were dropped: each was due while every virtual user (at most "
        "3) was still busy. Either the target is too slow for this rate, or it needs more --vus."
    ]


@pytest.mark.parametrize(
    ("neighbours", "words"),
    [
        (seen(), None),
        (seen(before=0.05, during=0.05, stolen=0.01), None),
        (seen(before=0.43), "Other programs used 43% of the cores right before this run"),
        (seen(during=0.5), "Other programs used 50% of this machine's cores while the run lasted"),
        (seen(stolen=0.2), "The host of this virtual machine kept back 20% of its CPU time"),
    ],
)
def test_neighbours_are_told(neighbours: Neighbours, words: str | None) -> None:
    result = result_of(Tally())
    result.neighbours = neighbours
    said = notices(result)
    assert len(said) == (words is not None)
    assert words is None or said[0].startswith(words)
    assert exported(result)["devnest"]["others"]["before"] == neighbours.before


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc/stat")
async def test_a_busy_core_is_seen_before_the_run() -> None:
    """And during it, where the target is on another machine: 192.0.2.1 is nobody's (RFC 5737)."""
    neighbours = Neighbours("192.0.2.1")
    spinner = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        await neighbours.look()
        neighbours.begin()
        await neighbours.look()
        neighbours.end(own_cpu_s=0.0)
    finally:
        spinner.kill()
        await spinner.wait()
    cores = os.cpu_count() or 1
    assert neighbours.before is not None
    assert neighbours.during is not None
    assert 0.3 < neighbours.before * cores <= cores
    assert 0.3 < neighbours.during * cores <= cores


async def test_a_target_on_this_machine_is_no_neighbour() -> None:
    neighbours = Neighbours("127.0.0.1")
    neighbours.begin()
    await neighbours.look()
    neighbours.end(own_cpu_s=0.0)
    assert neighbours.during is None
