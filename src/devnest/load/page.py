"""An HTML page in one file, with its charts and tables, that works offline."""

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import msgspec

from devnest.load.charts import Chart, reduced

__all__ = ["figure", "filled", "page", "part", "table", "tiles"]


def part(name: str) -> str:
    """Return one of the files that pages are made of: `page.html`, `page.css` or `charts.js`."""
    return resources.files("devnest.load").joinpath(name).read_text(encoding="utf-8")


def page(title: str, body: Sequence[str], figures: Mapping[str, Chart]) -> str:
    """Return the whole file.

    Args:
        title: Plain text.
        body: Pieces of HTML, in order.
        figures: What to draw into each element made by `figure`, by its identity.
    """
    parts = {
        "title": html.escape(title),
        "style": part("page.css"),
        "charts": part("charts.js"),
        "body": "\n".join(body),
        # Escaped, so that no name in the data can end the script element.
        "figures": msgspec.json.encode({name: reduced(chart) for name, chart in figures.items()})
        .decode()
        .replace("<", "\\u003c"),
    }
    return filled(part("page.html"), parts)


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with a part in the place of each `{{name}}`."""
    pieces = template.split("{{")
    whole = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        whole += [parts[name], rest]
    return "".join(whole)


def figure(identity: str, title: str, description: str) -> str:
    """Return the HTML element into which a chart is drawn.

    Args:
        identity: Its key in the `figures` of `page`, and the name of its files when downloaded.
        title: The heading above.
        description: The text below the heading, which screen readers read as well.
    """
    buttons = "".join(
        f"<button type='button' data-download='{kind.lower()}'>{kind}</button> "
        for kind in ("SVG", "PNG")
    )
    return (
        f"<figure><div class='head'><h3>{html.escape(title)}</h3>"
        f"<span class='download'>{buttons}</span></div>"
        f"<p class='quiet'>{html.escape(description)}</p>"
        f"<div class='plot' id='{identity}' data-label='{html.escape(description, quote=True)}'>"
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
