"""Descriptions of charts, which `charts.js` draws as SVG in the page.

A chart is either bars or lines. Its colours are roles, which `page.css` gives a colour for light,
dark and print: `before`, `after`, `other`, `published`, `bad`, or a number for one of eight others.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = ["Area", "Bar", "Bars", "Chart", "Limit", "Line", "Lines", "Role"]

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
