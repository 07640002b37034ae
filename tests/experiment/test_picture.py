"""What a session looks like in a terminal, and in the files for pull requests and CI."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from devnest.experiment import (
    DEMO,
    HEAD,
    Run,
    Session,
    Trouble,
    compared,
    fitting,
    headline,
    picture,
    whole_s,
    write_junit,
    write_summary,
)
from devnest.experiment.remaining import RemainingTime
from devnest.load.progress import clock
from devnest.load.result import Machine
from tests.experiment.results import loaded, measured, session


def demo(before_s: float = 2.98, after_s: float = 0.277, *, failed: bool = False) -> Session:
    """A demonstration whose requests are as many in both designs."""
    whole = Session(DEMO, {"inline": "Inline", "pool": "Pool"}, Machine("Linux", "CPU", 2, "3.11"))
    whole.add(Run.of("inline", 1, loaded(before_s)))
    whole.add(Run.of("pool", 1, loaded(after_s, failed=failed)))
    return whole


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_the_picture_fits_the_terminal(width: int) -> None:
    lines = [text.plain for text in picture(demo(), width)]
    assert max(map(len, lines)) <= max(30, min(80, width))
    joined = " ".join(" ".join(lines).split())
    assert "1.0 times as many requests; 95 of 100 answers within" in joined
    assert "none failed." in joined


def test_the_bars_are_linear() -> None:
    lines = [text.plain for text in picture(demo(2.0, 0.5), 80, bar="#")]
    bars = [line.count("#") for line in lines if "#" in line]
    assert bars[2] / bars[3] == pytest.approx(4, rel=0.1)


def test_the_headline_says_what_failed() -> None:
    assert headline(demo())[-1] == "none failed"
    assert headline(demo(failed=True))[-1] == "failed before: 0 of 90, after: 30 of 90"
    assert headline(session()) == []
    assert picture(session(), 80) == []


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_a_narrow_table_leaves_out_columns_and_breaks_no_figure(width: int) -> None:
    rows = compared(measured(runs=3))
    shown = fitting(rows, width)
    assert HEAD[shown[0]] == "design"
    assert HEAD.index("req/s") in shown
    wanted = [max(len(row[column]) for row in [HEAD, *rows]) + 3 for column in shown[1:]]
    assert sum(wanted) + 20 + 4 <= max(width, 40)
    assert len(fitting(rows, 200)) == len(HEAD)


def test_a_demonstration_is_short_enough_and_the_time_left_is_told() -> None:
    assert whole_s(DEMO) <= 120
    left = RemainingTime(DEMO, 2)
    first = left.left_s
    assert 60 < first <= 120
    left.run_ended()  # after no time, so the second takes none either
    assert left.runs == 1
    assert left.left_s < 1
    assert [clock(seconds) for seconds in (-1, 59, 60, 200, 730)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "3 min 20 s",
        "12 min",
    ]


def test_a_pull_request_gets_the_result_and_the_table(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.md", measured())
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("## devnest bench: experiment\n\n**1.0 times as many requests; ")
    assert "| design | runs |" in text
    write_summary(tmp_path / "summary.md", session())
    assert "**" not in (tmp_path / "summary.md").read_text()


def test_ci_gets_a_test_case_for_each_run(tmp_path: Path) -> None:
    whole = session(runs=2)
    whole.add(Run.of("inline", 1, loaded(0.4)))
    whole.add(Run.of("inline", 2, loaded(0.4, busy=True)))
    whole.add(Run.of("pool", 1, loaded(0.04, failed=True)))
    whole.troubles = [
        Trouble("node-piscina", "skipped", "no node", []),
        Trouble("pool", "failed", "it exited \x00\x1b[1m", ["<last> line\x07"]),
    ]
    write_junit(tmp_path / "junit.xml", whole)
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]  # noqa: S314  (just written)
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "2", "errors": "1", "skipped": "1"}
    assert [case.get("name") for case in suite][:2] == [
        "Before | <b>, run 1",
        "Before | <b>, run 2",
    ]
    messages = [part.get("message") for case in suite for part in case if part.get("message")]
    assert messages == [
        "void: the generator used 95% of a core",
        "30 requests and 0 checks failed",
        "no node",
        "it exited [1m",
    ]
