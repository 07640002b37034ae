"""Descriptions of charts, which `charts.js` draws as SVG in the page.

A chart is either bars or lines. Its colours are roles, which `page.css` gives a colour for light,
dark and print: `before`, `after`, `other`, `published`, `bad`, or a number for one of eight others.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

__all__ = ["Area", "Bar", "Bars", "Chart", "Limit", "Line", "Lines", "Role", "reduced"]

# Of a line, as many as a wide screen has columns for; a day has 86,400 seconds.
MAX_POINTS = 600
Role = Literal["before", "after", "other", "published", "bad"] | int


class Bar(msgspec.Struct, frozen=True):
    """A horizontal bar. `text` stands at its end, `name` above it."""

    name: str
    value: float
    text: str
    role: Role


class Bars(msgspec.Struct, frozen=True, tag_field="kind", tag="bars"):
    """Bars on one linear axis that begins at 0."""

    bars: Sequence[Bar]


class Line(msgspec.Struct, frozen=True):
    """A line through its points. None makes a gap; a point between two gaps is drawn as a dot."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    role: Role
    dashed: bool = False


class Area(msgspec.Struct, frozen=True):
    """An area behind the lines, with an axis of its own on the right."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Limit(msgspec.Struct, frozen=True):
    """A dashed horizontal line."""

    name: str
    value: float


class Lines(msgspec.Struct, frozen=True, tag_field="kind", tag="lines"):
    """Lines over a common axis.

    Attributes:
        unit: The unit of the values, whose axis is linear and begins at 0.
        lines: In the order of the legend.
        x: What is on the horizontal axis.
        scale: Whether that axis is linear, or of percentiles from 0 to 99.9.
        behind: Drawn behind the lines.
        limit: A value to compare with.
    """

    unit: str
    lines: Sequence[Line]
    x: str = "seconds"
    scale: Literal["linear", "percentile"] = "linear"
    behind: Area | None = None
    limit: Limit | None = None


Chart = Bars | Lines
_Drawn = TypeVar("_Drawn", Line, Area)


def reduced(chart: Chart) -> Chart:
    """Return a chart whose lines have at most `MAX_POINTS` points, and look the same.

    Of each stretch of a longer line, the lowest and the highest point stay.
    """
    if isinstance(chart, Bars):
        return chart
    behind = None if chart.behind is None else _reduced(chart.behind)
    return msgspec.structs.replace(
        chart, lines=[_reduced(line) for line in chart.lines], behind=behind
    )


def _reduced(line: _Drawn) -> _Drawn:
    if len(line.x) <= MAX_POINTS:
        return line
    size = -(-len(line.x) // (MAX_POINTS // 2))
    kept: list[int] = []
    for begin in range(0, len(line.x), size):
        stretch = range(begin, min(begin + size, len(line.x)))
        known = [(value, at) for at in stretch if (value := line.y[at]) is not None]
        kept += sorted({min(known)[1], max(known)[1]}) if known else [begin]
    return msgspec.structs.replace(
        line, x=[line.x[at] for at in kept], y=[line.y[at] for at in kept]
    )
