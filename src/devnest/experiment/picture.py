"""The result of a session as a picture for a terminal."""

import textwrap

from rich.text import Text

from devnest.experiment.session import Session
from devnest.experiment.story import headline, pair, reason, seconds

__all__ = ["picture"]

MAX_WIDTH = 80
# Narrower terminals get this and wrap it themselves.
MIN_WIDTH = 30
COLOURS = {"before": "red", "after": "green"}
LABEL_CHARS = 8


def picture(session: Session, width: int, *, bar: str = "█") -> list[Text]:
    """Return the lines of the picture, or none where the session has no "before" and "after".

    Args:
        session: The session.
        width: The columns of the terminal.
        bar: The character that bars are made of.
    """
    designs = pair(session)
    if designs is None:
        return []
    width = max(MIN_WIDTH, min(MAX_WIDTH, width))
    rates, slowest = (
        [session.median_of(design, figure) or 0.0 for design in designs]
        for figure in ("requests_per_s", "p95_ms")
    )
    explained = [
        f"{when}: {session.titles[design]}" for when, design in zip(COLOURS, designs, strict=True)
    ]
    return [
        *_wrapped(explained, width, indent="  "),
        Text(),
        *_bars("requests per second", rates, [f"{rate:,.1f}" for rate in rates], width, bar),
        Text(),
        *_bars("95 of 100 answers within", slowest, [seconds(ms) for ms in slowest], width, bar),
        Text(),
        *(Text(line, "bold") for line in textwrap.wrap("; ".join(headline(session)) + ".", width)),
        *_wrapped([reason(session)], width),
    ]


def _wrapped(lines: list[str], width: int, indent: str = "") -> list[Text]:
    return [
        Text(part)
        for line in lines
        for part in textwrap.wrap(line, width, subsequent_indent=indent)
    ]


def _bars(title: str, values: list[float], texts: list[str], width: int, bar: str) -> list[Text]:
    room = width - LABEL_CHARS - max(map(len, texts)) - 1
    most = max(values) or 1.0
    lines = [Text(title)]
    for (when, colour), value, text in zip(COLOURS.items(), values, texts, strict=True):
        drawn = bar * max(1, round(value / most * room))
        lines.append(Text.assemble(f"{when:<{LABEL_CHARS}}", (drawn, colour), f" {text}"))
    return lines
