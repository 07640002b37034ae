"""One HTML file that needs nothing else: charts with Plotly's script inside, tables, light, dark and print."""

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec

__all__ = ["Figure", "figure", "page", "table", "tiles"]

Figure = Mapping[str, Any]  # Plotly's own JSON: data and layout


def page(title: str, body: Sequence[str], figures: Mapping[str, Figure]) -> str:
    """The whole file. `body` is HTML; `figures` are drawn into the elements that `figure` made."""
    from plotly.offline import get_plotlyjs  # only here: 5 MB that no run without a report needs

    parts = {
        "title": html.escape(title),
        "plotly": get_plotlyjs(),
        "body": "\n".join(body),
        # `<` would let a name in the data end the script element
        "figures": msgspec.json.encode(figures).decode().replace("<", "\\u003c"),
    }
    template = resources.files("devnest.load").joinpath("page.html").read_text(encoding="utf-8")
    pieces = template.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def figure(identity: str, title: str, description: str, *, bars: int = 0, lines: int = 0) -> str:
    """A place for a chart; the description also serves those who cannot see it.

    It is as high as its lying bars need, and on a phone as its legend of so many lines.
    """
    label = html.escape(description, quote=True)
    room = f"--bars:{bars};--lines:{lines}"
    return (
        f"<figure><h2>{html.escape(title)}</h2><p class='quiet'>{html.escape(description)}</p>"
        f"<div class='plot' id='{identity}' style='{room}' role='img' aria-label='{label}'></div></figure>"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures: pairs of label and value."""
    items = (
        f"<li><b>{html.escape(value)}</b><span>{html.escape(label)}</span></li>"
        for label, value in figures
    )
    return f"<ul class='tiles'>{''.join(items)}</ul>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """A table; `words` for text instead of numbers. A cell is escaped."""
    headings = "".join(f"<th scope='col'>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    kind = " class='words'" if words else ""
    top = f"<thead><tr>{headings}</tr></thead>" if head else ""
    return f"<div class='wide'><table{kind}>{top}<tbody>{lines}</tbody></table></div>"
