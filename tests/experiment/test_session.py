"""The session's file, its pending runs, and its medians."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devnest.busy import busy
from devnest.experiment import Run, Session, Trouble, compared, ratios, remarks, void_runs
from devnest.load import BadPlan
from tests.experiment.results import loaded, measured, session


def test_the_designs_take_turns() -> None:
    """Every design runs once, then all run again, so that a disturbance affects all of them."""
    assert session(runs=2).pending == [
        (number, name) for number in (1, 2) for name in ("inline", "pool", "node-piscina")
    ]


def test_a_file_brings_the_session_back(tmp_path: Path) -> None:
    whole = measured(runs=2)
    whole.troubles = [Trouble("pool", "failed", "it did not start", ["a line"])]
    whole.save(tmp_path / "bench.json")
    assert Session.load(tmp_path / "bench.json") == whole
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]
    assert Session.load(tmp_path / "bench.json").pending == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"runs": []}', b"\xff"])
def test_what_holds_no_session_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(content)
    with pytest.raises(BadPlan, match=r"bench\.json holds no session"):
        Session.load(path)


def test_a_session_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    other = session()
    other.format = 99
    other.save(path)
    with pytest.raises(BadPlan, match="format 99"):
        Session.load(path)


def test_a_session_whose_designs_have_no_title_is_refused(tmp_path: Path) -> None:
    other = session()
    del other.titles["pool"]
    other.save(tmp_path / "bench.json")
    with pytest.raises(BadPlan, match="a design has no title"):
        Session.load(tmp_path / "bench.json")


def test_a_busy_machine_is_reported() -> None:
    some = session()
    some.add(Run.of("inline", 1, loaded(0.04), 0.05))
    assert remarks(some) == []
    some.add(Run.of("pool", 1, loaded(0.04), 0.7))
    assert remarks(some) == [
        "Before 1 of 2 runs, other programs used more than 10% of the cores (up to 70%). "
        "The figures of these runs may be too low."
    ]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc/stat")
def test_a_busy_core_is_seen() -> None:
    """A process in a busy loop uses about one core; 0.3 leaves room for rounding and others."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinner:
        share = busy(0.5)
        spinner.kill()
    assert share is not None
    assert share * (os.cpu_count() or 1) > 0.3
    assert share <= 1.0


def test_a_void_run_does_not_count_and_is_done_again() -> None:
    """It is kept and reported until a valid run replaces it."""
    some = session()
    some.add(Run.of("pool", 1, loaded(0.04, busy=True)))
    assert (1, "pool") in some.pending
    assert some.median_of("pool", "requests") is None
    assert void_runs(some) == [
        "After, run 1, is void: the generator used 95% of a core in its busiest ten seconds.",
    ]
    some.add(Run.of("pool", 1, loaded(0.04)))
    assert (1, "pool") not in some.pending
    assert void_runs(some) == []
    assert len(some.runs) == 1


def test_figures_are_medians_and_failures_a_sum() -> None:
    some = session(runs=3)
    for number, answer_s in enumerate((0.05, 0.9, 0.07), start=1):
        some.add(Run.of("pool", number, loaded(answer_s, failed=True)))
    assert some.median_of("pool", "p95_ms") == pytest.approx(70, rel=0.01)
    row = next(row for row in compared(some) if row[0] == "After")
    assert row == ["After", "3", "90", "30.0", "30", row[5], "70.00ms", "70.00ms", "2.00ms", "90"]


def test_published_figures_come_first_and_a_design_without_a_run_has_none() -> None:
    rows = compared(session())
    assert [row[0] for row in rows] == [
        "published, before",
        "published, after",
        "Before | <b>",
        "After",
        "Node",
    ]
    assert rows[0][2:8] == ["2,592", "62", "-", "263.0ms", "69.50ms", "1,520ms"]
    assert rows[3] == ["After", "0", *["-"] * 8]


def test_ratios_are_stated_against_before_and_against_node() -> None:
    assert ratios(session()) == []
    before, node = ratios(measured())
    assert before == (
        "After, compared with Before | <b>: 1.00 times the requests per second and "
        "0.10 times the p95 of all requests; 0 and 0 requests failed."
    )
    assert node.startswith("After, compared with Node: ")
    assert "0.20 times the p95" in node
