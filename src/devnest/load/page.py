"""An HTML page in one file, with its charts, tables and Plotly's script, that works offline."""

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec

__all__ = ["Figure", "figure", "page", "table", "tiles"]

Figure = Mapping[str, Any]  # Plotly's JSON: `data` and `layout`


def page(title: str, body: Sequence[str], figures: Mapping[str, Figure]) -> str:
    """Return the whole file.

    Args:
        title: Plain text.
        body: Pieces of HTML, in order.
        figures: What to draw into each element made by `figure`, by its identity.
    """
    from plotly.offline import get_plotlyjs  # imported here: a run without a report needs no Plotly

    parts = {
        "title": html.escape(title),
        "plotly": get_plotlyjs(),
        "body": "\n".join(body),
        # Escaped, so that no name in the data can end the script element.
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
    """Return the HTML element into which a chart is drawn.

    Args:
        identity: Its key in the `figures` of `page`.
        title: The heading above.
        description: The text below the heading, which screen readers read as well.
        bars: The number of horizontal bars; the element is high enough for them.
        lines: The number of lines in the legend; on a phone the element is high enough for them.
    """
    label = html.escape(description, quote=True)
    style = f"--bars:{bars};--lines:{lines}"
    return (
        f"<figure><h2>{html.escape(title)}</h2><p class='quiet'>{html.escape(description)}</p>"
        f"<div class='plot' id='{identity}' style='{style}' role='img' aria-label='{label}'>"
        "</div></figure>"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Return a row of large numbers. `figures` are pairs of label and value."""
    items = (
        f"<li><b>{html.escape(value)}</b><span>{html.escape(label)}</span></li>"
        for label, value in figures
    )
    return f"<ul class='tiles'>{''.join(items)}</ul>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """Return a table. The cells are plain text; `words` aligns them as text, not as numbers."""
    headings = "".join(f"<th scope='col'>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    kind = " class='words'" if words else ""
    top = f"<thead><tr>{headings}</tr></thead>" if head else ""
    return f"<div class='wide'><table{kind}>{top}<tbody>{lines}</tbody></table></div>"
