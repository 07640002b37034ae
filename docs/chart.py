"""Draw the README's picture from the table of the published experiment: `python docs/chart.py`.

The figures are those that `devnest bench --write-docs docs/performance.md` wrote there. A test
holds that the picture in the repository shows them.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SOURCE = HERE / "performance.md"
PICTURE = HERE / "_static" / "experiment.svg"
BEGIN, END = "<!-- devnest bench: experiment -->", "<!-- /devnest bench: experiment -->"

# The design as the table names it, the words in the picture, and the colour of its bar.
BARS = [
    ("DevNest, inline, one process (before)", "Before: hashing on the event loop", "before"),
    ("FastAPI, SQLAlchemy, asyncio.to_thread", "FastAPI, asyncio.to_thread", "peer"),
    ("Node, Express, Piscina and cluster", "Node, Piscina and cluster", "peer"),
    ("DevNest, pool with lanes (after)", "After: DevNest", "after"),
]
WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 760, 250, 190, 64, 40, 24
STYLE = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.value { font-weight: 600; }
.note { fill: #59636e; }
.before { fill: #d1605e; }
.peer { fill: #8c959f; }
.after { fill: #2da44e; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .before { fill: #e5706e; }
  .peer { fill: #7d8590; }
  .after { fill: #3fb950; }
}
"""


class Row(NamedTuple):
    """One design's figures, as the table writes them."""

    rate: float
    p95: str


def figures(page: str) -> dict[str, Row]:
    """Return the rows of the experiment's table by their design."""
    section = page[page.index(BEGIN) : page.index(END)]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line[:1] == "|"
    ]
    head = lines[0]
    rate, p95 = head.index("req/s"), head.index("p95")
    return {cells[0]: Row(float(cells[rate].replace(",", "")), cells[p95]) for cells in lines[2:]}


def spoken(duration: str) -> str:
    """Return a duration of the table for people: 541.18ms is 541 ms, 3.76s is 3.8 s."""
    found = re.fullmatch(r"([\d.,]+)(ms|s)", duration)
    assert found, duration
    value, unit = float(found[1].replace(",", "")), found[2]
    return f"{value:.0f} ms" if unit == "ms" else f"{value:.1f} s"


def picture(page: str) -> str:
    """Return the picture of a page's experiment, as SVG."""
    rows = figures(page)
    longest = max(rows[design].rate for design, _, _ in BARS)
    height = TOP + ROW * len(BARS) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        '<title id="title">Requests per second of 100 virtual users who register, sign in and post</title>',
        f"<style>\n{STYLE}</style>",
        '<text class="title" x="0" y="20">Requests per second: 100 virtual users register, sign in and post</text>',
        '<text class="note" x="0" y="42">bcrypt cost 10, two cores; p95 is the 95th percentile of all requests</text>',
    ]
    for index, (design, words, kind) in enumerate(BARS):
        row = rows[design]
        top = TOP + ROW * index
        length = round((WIDTH - LEFT - RIGHT) * row.rate / longest, 1)
        base = top + BAR - 7
        parts += [
            f'<text x="0" y="{base}">{words}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length}" height="{BAR}" rx="3"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{base}"><tspan class="value">{row.rate:.1f}/s</tspan>'
            f'<tspan class="note" dx="8">p95 {spoken(row.p95)}</tspan></text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    drawn = picture(SOURCE.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--stdout"]:
        sys.stdout.write(drawn)
    else:
        PICTURE.write_text(drawn, encoding="utf-8")
