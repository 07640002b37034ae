"""The HTML report: whole, offline, and drawn without a script error where there is a browser to
try.
"""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devnest.load import Result
from devnest.load.charts import LOGARITHMIC, curve
from devnest.load.messages import Second
from devnest.load.report import report
from devnest.load.tally import Tally
from devnest.load.thresholds import parse_threshold

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--virtual-time-budget=10000",
    ),
]
HOSTILE = '</script><script>throw new Error("broken out")</script>'


def finished(*, failed: bool = False, busy: bool = False) -> Result:
    """Five seconds of two routes, one with a hostile name."""
    result = Result(url="http://127.0.0.1:8000", profile="experiment", generators=1, seed=1)
    for ordinal in range(5):
        tally = Tally()
        for number in range(20):
            tally.request("login", 200, True, 0.05 + number / 1000)
            tally.request(HOSTILE, 500 if failed else 201, not failed, 0.002)
            tally.check("login has the right status", True)
        if failed:
            tally.error(HOSTILE, "status 500")
        result.absorb(
            0, Second(ordinal, 10 * ordinal, 0.95 if busy else 0.1, 1.0, 0.0, tally.take())
        )
    result.finish()
    return result


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.scripts = 0
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "srcset"):
                self.outside.append(f"{tag} {value}")


def figures_of(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text)
    assert found is not None
    figures: dict[str, object] = msgspec.json.decode(found[1])
    return figures


@pytest.mark.parametrize("failed", [False, True])
def test_every_chart_has_its_place_and_nothing_is_loaded(failed: bool) -> None:
    """One file: no element points elsewhere, and a name in the data cannot end the script."""
    text = report(finished(failed=failed), [], "devnest load")
    elements = Elements(text)
    charts = {"rate", "p95", "percentiles", "cpu"} | ({"failures"} if failed else set())
    assert set(figures_of(text)) == charts
    assert set(elements.ids) == charts | {"figures"}
    assert elements.outside == []
    assert elements.scripts == 4
    assert HOSTILE not in text
    assert ("No request failed." in text) is not failed


def test_a_second_without_neighbours_is_a_dot() -> None:
    """A line of one point is nothing; honest sign-ins in a flood are as rare."""
    sparse = curve("rare", range(6), [5, None, None, 1, 2, None], 0)
    assert (sparse["mode"], sparse["marker"]["size"]) == ("lines+markers", [7, 0, 0, 0, 0, 0])
    assert curve("usual", range(3), [1, 2, 3], 0)["mode"] == "lines"


def test_the_shortest_bar_can_be_seen() -> None:
    """The axis begins at half of it."""
    axis = msgspec.convert(figures_of(report(finished(), [], ""))["percentiles"], dict[str, Any])[
        "layout"
    ]["yaxis"]
    assert 10 ** axis["range"][0] == pytest.approx(1, rel=0.01)


def test_a_logarithmic_scale_says_20_and_not_2() -> None:
    """Each tick has its whole number beside it."""
    ticks = dict(zip(LOGARITHMIC["tickvals"], LOGARITHMIC["ticktext"], strict=True))
    assert {
        0.01: "0.01",
        2: "2",
        20: "20",
        5000: "5,000",
        500_000: "500,000",
    }.items() <= ticks.items()


def test_the_report_says_what_was_run_and_whether_it_counts() -> None:
    verdicts = [parse_threshold("http_req_failed: rate<0.01").judge(finished())]
    text = report(finished(busy=True), verdicts, "devnest load http://x --threshold '<3'")
    assert "This run is void" in text
    assert "devnest load http://x --threshold &#x27;&lt;3&#x27;" in text
    assert "✓ http_req_failed: rate&lt;0.01" in text
    assert "This run is void" not in report(finished(), [], "devnest load")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_report_is_drawn_without_a_script_error(tmp_path: Path) -> None:
    """In a real browser every chart becomes a drawing, and no script fails."""
    assert BROWSER is not None
    path = tmp_path / "report.html"
    text = report(finished(failed=True), [], "devnest load")
    path.write_text(text, encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shown = subprocess.run(
        [BROWSER, *FLAGS, profile, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    ).stdout
    opening = shown[shown.index("<html") : shown.index(">", shown.index("<html"))]
    assert "data-error" not in opening
    assert f'data-drawn="{len(figures_of(text))}"' in opening
    assert shown.count('class="plot js-plotly-plot"') == len(figures_of(text))
