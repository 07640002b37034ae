"""Draws the panels of dashboard.json from a Prometheus, where there is no Grafana.

`python deploy/observability/panels.py http://127.0.0.1:9090 panels.html --minutes 15` writes one
page that needs no network. It needs the extra `load`, whose charts it uses.
"""

import argparse
import html
import itertools
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devnest.load.charts import Chart, Line, Lines
from devnest.load.page import figure, page, tiles

DASHBOARD = Path(__file__).with_name("dashboard.json")
MAX_POINTS = 240  # of a line
MIN_STEP_S = 1
MAX_ANSWER_S = 30
# A unit of Grafana: what a value is multiplied by, and how the axis names it.
UNITS = {
    "bytes": (1 / 1024**2, "MiB"),
    "none": (1, ""),
    "ops": (1, "calls/s"),
    "percentunit": (100, "%"),
    "reqps": (1, "req/s"),
    "s": (1000, "ms"),
    "short": (1, ""),
}


class Source:
    """A Prometheus, and the time of which its data is shown.

    Args:
        url: Its address.
        minutes: How much time before now.
    """

    def __init__(self, url: str, minutes: float) -> None:
        self.url = url.rstrip("/")
        self.end_s = time.time()
        self.begin_s = self.end_s - 60 * minutes
        self.step_s = max(MIN_STEP_S, round((self.end_s - self.begin_s) / MAX_POINTS))

    def series(self, target: dict[str, Any]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
        """Yield the name and the points of each series of a panel's query."""
        expression = target["expr"].replace("$instance", ".*")
        expression = expression.replace("$__rate_interval", f"{max(4 * self.step_s, 60)}s")
        query = {
            "query": expression,
            "start": f"{self.begin_s:.3f}",
            "end": f"{self.end_s:.3f}",
            "step": str(self.step_s),
        }
        address = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=MAX_ANSWER_S) as answer:  # noqa: S310  (checked)
            found = json.load(answer)["data"]["result"]
        for each in found:
            points = [(float(at) - self.begin_s, float(value)) for at, value in each["values"]]
            known = [(at, value) for at, value in points if value == value]  # not NaN
            if known:
                yield named(target.get("legendFormat", ""), each["metric"]), known


def named(legend: str, labels: dict[str, str]) -> str:
    """Return a legend with its labels filled in, as Grafana does."""
    name = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()
    return name or ", ".join(labels.values()) or "value"


def drawn(panel: dict[str, Any], source: Source) -> Lines:
    """Return a panel as a chart."""
    factor, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    every = [series for target in panel["targets"] for series in source.series(target)]
    lines = [
        Line(
            name,
            [round(at, 1) for at, _ in points],
            [round(value * factor, 4) for _, value in points],
            index,
        )
        for index, (name, points) in enumerate(every)
    ]
    return Lines(unit, lines)


def tile(panel: dict[str, Any], source: Source) -> list[tuple[str, str]]:
    """Return the last value of each series of a panel that shows one number."""
    chart = drawn(panel, source)
    return [
        (f"{panel['title']}, {line.name}", f"{line.y[-1]:,.4g} {chart.unit}".strip())
        for line in chart.lines
    ]


def written(dashboard: dict[str, Any], source: Source) -> str:
    """Return the page: the rows of the dashboard as headings, its panels below them."""
    charts: dict[str, Chart] = {}
    body = [f"<h1>{html.escape(dashboard['title'])}</h1>"]
    body.append(f"<p class='quiet'>The last {(source.end_s - source.begin_s) / 60:g} minutes.</p>")
    for kind, panels in itertools.groupby(dashboard["panels"], lambda panel: panel["type"]):
        if kind == "stat":
            body.append(tiles(each for panel in panels for each in tile(panel, source)))
            continue
        for panel in panels:
            if kind == "row":
                body.append(f"<h2>{html.escape(panel['title'])}</h2>")
                continue
            name = f"panel-{panel['id']}"
            charts[name] = drawn(panel, source)
            body.append(figure(name, panel["title"], panel["description"]))
    return page(dashboard["title"], body, charts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="the address of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("file", type=Path, help="the HTML file to write")
    parser.add_argument("--minutes", type=float, default=15, help="how much time is shown")
    given = parser.parse_args()
    if not 0 < given.minutes <= 60 * 24 * 365:
        parser.error(f"--minutes is more than 0 and at most a year, not {given.minutes:g}")
    if urllib.parse.urlsplit(given.url).scheme not in ("http", "https"):
        parser.error(f"{given.url} is no http:// or https:// address")
    try:
        text = written(json.loads(DASHBOARD.read_text()), Source(given.url, given.minutes))
        given.file.write_text(text, encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"panels.py: {given.url}: {error}")


if __name__ == "__main__":
    main()
