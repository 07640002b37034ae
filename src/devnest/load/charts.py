"""The parts of Plotly figures that the reports share."""

from collections.abc import Sequence
from typing import Any

__all__ = ["COLOURS", "LOGARITHMIC", "curve", "time_layout"]

COLOURS = ("#2f7ed8", "#e07b00", "#1a9e6b", "#b45fc7", "#c9423a", "#8a8f00", "#00a0b0", "#a0643c")
# Plotly labels a tick between two powers of ten with its first digit alone (20 becomes 2), so the
# labels are given in full.
_TICKS = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
LOGARITHMIC: dict[str, Any] = {
    "type": "log",
    "tickvals": _TICKS,
    "ticktext": [f"{tick:,g}" for tick in _TICKS],
}


def curve(name: str, x: Sequence[float], y: Sequence[float | None], colour: int) -> dict[str, Any]:
    """Return a line of a figure, with a dot for each value between two gaps.

    Args:
        name: Its text in the legend.
        x: The positions.
        y: The values; None makes a gap.
        colour: The index of the line in its figure, from 0.
    """
    around = [None, *y, None]
    alone = [here is not None and before is None and after is None
             for before, here, after in zip(around, y, around[2:], strict=False)]  # fmt: skip
    line_colour = COLOURS[colour % len(COLOURS)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if any(alone) else "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": line_colour, "width": 2},
        "cliponaxis": False,
        "marker": {"color": line_colour, "size": [7 if dot else 0 for dot in alone]},
    }


def time_layout(unit: str) -> dict[str, Any]:
    """Return the layout of a figure whose x axis is the seconds of a run and whose y is `unit`."""
    return {
        "margin": {"l": 56, "r": 56, "t": 30, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "seconds"}, "showgrid": False},
        "yaxis": {"title": {"text": unit}, "rangemode": "tozero", "automargin": True},
    }
