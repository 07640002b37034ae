"""The report: it is complete, needs no network, and a browser draws it without an error."""

from pathlib import Path

import pytest

from devnest.experiment import Session, Trouble, report
from tests.experiment.results import measured, session
from tests.load.test_report import BROWSER, Elements, drawn, figures_of

CHARTS = {"rates", "slowest", "percentiles", "rate-over-time", "p95-over-time"}


@pytest.mark.parametrize("some", [session(), measured(runs=2)], ids=["empty", "whole"])
def test_every_chart_has_its_place_and_nothing_is_loaded(some: Session) -> None:
    """No element refers to another file, and a title cannot become an element."""
    text = report(some, "devnest bench")
    elements = Elements(text)
    assert set(figures_of(text)) == CHARTS
    assert set(elements.ids) == CHARTS | {"figures"}
    assert elements.outside == []
    assert elements.scripts == 4
    assert "Before | <b>" not in text


def test_the_report_says_what_is_missing() -> None:
    some = session()
    some.troubles = [Trouble("pool", "failed", "it did not start", [])]
    text = report(some, "devnest bench --designs '<3'")
    assert "3 runs are missing." in text
    assert "After: failed, it did not start" in text
    assert "devnest bench --designs &#x27;&lt;3&#x27;" in text
    assert "runs are missing" not in report(measured(), "devnest bench")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_report_is_drawn_without_a_script_error(tmp_path: Path) -> None:
    """In a real browser every chart is drawn and no script fails."""
    path = tmp_path / "report.html"
    path.write_text(report(measured(runs=3), "devnest bench"), encoding="utf-8")
    shown = drawn(path, tmp_path)
    assert shown.count("<svg") == len(CHARTS)
    for role in ("--before", "--after", "--other", "--published"):
        assert f"var({role})" in shown.partition("<svg")[2]


def test_the_report_begins_with_what_was_gained() -> None:
    text = report(measured(runs=3), "devnest bench").replace("\u00a0", " ")
    assert (
        "<b>1.0 times as many requests</b>; 95 of 100 answers within 0.040 s instead of 0.40 s; "
        "none failed.</p>"
    ) in text
    assert "times as many" not in report(session(), "devnest bench")
