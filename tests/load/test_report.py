"""The HTML report: whole, offline, and drawn without a script error where there is a browser to
try.
"""

import re
import shutil
import subprocess
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from devnest.load import Result
from devnest.load.charts import Area, Bar, Bars, Chart, Line, Lines, reduced
from devnest.load.messages import Second
from devnest.load.page import figure, page
from devnest.load.report import report
from devnest.load.result import Point
from devnest.load.tally import Tally
from devnest.load.thresholds import parse_threshold
from devnest.load.trend import Trend

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
MAX_REPORT_CHARS = 600_000
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
    assert len(text) < MAX_REPORT_CHARS
    assert HOSTILE not in text
    assert ("No request failed." in text) is not failed


def test_the_report_says_what_was_run_and_whether_it_counts() -> None:
    verdicts = [parse_threshold("http_req_failed: rate<0.01").judge(finished())]
    text = report(finished(busy=True), verdicts, "devnest load http://x --threshold '<3'")
    assert "This run is void" in text
    assert "devnest load http://x --threshold &#x27;&lt;3&#x27;" in text
    assert "✓ http_req_failed: rate&lt;0.01" in text
    assert "This run is void" not in report(finished(), [], "devnest load")


def drawn(path: Path, tmp_path: Path) -> str:
    """Return the elements of a page after a real browser has run its scripts without an error."""
    assert BROWSER is not None
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    ).stdout
    opening = shown[shown.index("<html") : shown.index(">", shown.index("<html"))]
    assert "data-error" not in opening
    assert f'data-drawn="{len(figures_of(path.read_text()))}"' in opening
    return shown


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_report_is_drawn_without_a_script_error(tmp_path: Path) -> None:
    """In a real browser every chart becomes a drawing with its lines, and no script fails."""
    path = tmp_path / "report.html"
    path.write_text(report(finished(failed=True), [], "devnest load"), encoding="utf-8")
    shown = drawn(path, tmp_path)
    assert shown.count("<svg") == len(figures_of(path.read_text()))
    for role in ("--line-0", "--line-1", "--behind", "--bad"):
        assert f"var({role})" in shown.partition("<svg")[2]


def test_a_day_and_ten_million_samples_fit_into_a_small_report() -> None:
    """Of a long line the lowest and the highest point of each stretch stay."""
    result = Result(url="http://127.0.0.1:8000", profile="stress", generators=1, seed=1)
    for ordinal in range(86_400):
        result.points.append(
            Point(ordinal, 120, 0, 120.0 + ordinal % 7, 5000, p95_ms_by_name={"feed": 2.5})
        )
    result.durations["feed", 200, True] = trend = Trend()
    trend._histogram.record_value(2_500, 10_000_000)
    trend.count = 10_000_000
    trend._max_s = 0.0025
    text = report(result, [], "devnest load")
    assert len(text) < MAX_REPORT_CHARS
    assert "10,000,000" in text
    values: list[float | None] = [None, *range(5000), None, *range(5000)]
    values[7001] = 9e9
    long = Lines("ms", [Line("long", list(range(len(values))), values, 0)])
    short = reduced(long)
    assert isinstance(short, Lines)
    (line,) = short.lines
    assert len(line.x) == len(line.y) <= 600
    assert list(line.x) == sorted(line.x)
    assert max(value for value in line.y if value is not None) == 9e9
    one = Lines("ms", [Line("one", [1], [2], 0)])
    assert reduced(one) == one


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_gaps_and_single_points_are_drawn(tmp_path: Path) -> None:
    """A gap ends a line; a point between two gaps is a dot; charts without a value stay empty."""
    sparse = Line("rare", [0, 1, 2, 3, 4, 5], [5, None, None, 1, 2, None], 0)
    charts: dict[str, Chart] = {
        "sparse": Lines("ms", [sparse]),
        "nothing": Lines("ms", []),
        "gaps": Lines("ms", [Line("none", [1], [None], "bad")], behind=Area("VUs", [], [])),
        "curve": Lines("ms", [Line("one", [0, 100], [1, 9], 1)], scale="percentile"),
        "bars": Bars([Bar("<b>", 0, "0 ms", "before"), Bar("other", 2e9, "2e9", "other")]),
        "no-bars": Bars([]),
    }
    path = tmp_path / "page.html"
    body = [figure(name, name, "words") for name in charts]
    path.write_text(page("Charts", body, charts), encoding="utf-8")
    first = drawn(path, tmp_path).partition('id="sparse"')[2].partition("</figure>")[0]
    assert first.count("<circle") == 1
    assert len(re.findall(r'<path d="M[^"]*L[^"]*" fill="none"', first)) == 1
    assert "NaN" not in first


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_chart_can_be_saved(tmp_path: Path) -> None:
    """The file stands alone: it has the title, and colours in place of the page's variables."""
    path = tmp_path / "page.html"
    chart = Bars([Bar("a", 1, "1 ms", "after")])
    script = """<script>addEventListener("load", () => {
      const made = charts.standalone(document.querySelector(".plot"), "The title");
      document.body.dataset.saved = encodeURIComponent(made.text);
    });</script>"""
    text = page("One", [figure("one", "The title", "words"), script], {"one": chart})
    path.write_text(text, encoding="utf-8")
    saved = re.search(r'data-saved="([^"]*)"', drawn(path, tmp_path))
    assert saved is not None
    drawing = ElementTree.fromstring(urllib.parse.unquote(saved[1]))  # noqa: S314  (made by the page)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert "The title" in "".join(drawing.itertext())
    assert "var(" not in urllib.parse.unquote(saved[1])
