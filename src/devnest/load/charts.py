"""Pieces of Plotly figures that the reports share."""

from collections.abc import Sequence
from typing import Any

__all__ = ["COLOURS", "LOGARITHMIC", "curve", "frame"]

COLOURS = ("#2f7ed8", "#e07b00", "#1a9e6b", "#b45fc7", "#c9423a", "#8a8f00", "#00a0b0", "#a0643c")
# Ticks at 1, 2 and 5, written out: between powers of ten Plotly writes the first digit alone, 20 as 2.
_TICKS = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
LOGARITHMIC: dict[str, Any] = {
    "type": "log",
    "tickvals": _TICKS,
    "ticktext": [f"{tick:,g}" for tick in _TICKS],
}


def curve(name: str, x: Sequence[float], y: Sequence[float | None], colour: int) -> dict[str, Any]:
    """A line, and a dot where a value has no neighbour; `colour` is its number among the figure's lines."""
    around = [None, *y, None]
    alone = [here is not None and before is None and after is None
             for before, here, after in zip(around, y, around[2:], strict=False)]  # fmt: skip
    its_colour = COLOURS[colour % len(COLOURS)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if any(alone) else "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": its_colour, "width": 2},
        "cliponaxis": False,
        "marker": {"color": its_colour, "size": [7 if dot else 0 for dot in alone]},
    }


def frame(unit: str) -> dict[str, Any]:
    """The layout of a figure over the seconds of a run; `unit` is what goes up."""
    return {
        "margin": {"l": 56, "r": 56, "t": 30, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "seconds"}, "showgrid": False},
        "yaxis": {"title": {"text": unit}, "rangemode": "tozero", "automargin": True},
    }
