"""Docstrings as they are written here, for Sphinx, which reads reStructuredText.

A docstring has Google's sections and code between single backticks. In running text `*`, `|` and a
final `_` mean themselves, so they are escaped. Doctests, and literal blocks after `::`, stay as
they are.
"""

import importlib
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PACKAGES = ("devnest.bcrypt", "devnest.load", "devnest.passwords", "devnest.pool")
log = logging.getLogger(__name__)

CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
SPECIAL = re.compile(r"(?<!\\)(\*|\||(?<=\w)_(?!\w))")


def to_rest(text: str) -> str:
    """Return a paragraph with its code marked and its other characters escaped."""
    parts = CODE.split(text)
    for index, part in enumerate(parts):
        parts[index] = f"``{part.strip('`')}``" if index % 2 else SPECIAL.sub(r"\\\1", part)
    return "".join(parts)


def indent_of(line: str) -> int:
    """Return the number of spaces before a line's text."""
    return len(line) - len(line.lstrip())


def converted(lines: list[str]) -> list[str]:
    """Return a docstring's lines as Sphinx should read them."""
    result: list[str] = []
    paragraph: list[str] = []
    literal_indent: int | None = (
        None  # the indent of the paragraph that announced the literal block
    )

    def flush() -> None:
        if paragraph:
            is_doctest = paragraph[0].lstrip().startswith(">>>")
            result.extend(paragraph if is_doctest else to_rest("\n".join(paragraph)).split("\n"))
            paragraph.clear()

    for line in lines:
        if literal_indent is not None and (not line.strip() or indent_of(line) > literal_indent):
            result.append(line)
            continue
        literal_indent = None
        if line.strip():
            paragraph.append(line)
            continue
        announces = bool(paragraph) and paragraph[-1].endswith("::")
        literal_indent = indent_of(paragraph[-1]) if announces else None
        flush()
        result.append(line)
    flush()
    return result


def process(
    app: Sphinx, kind: str, name: str, item: object, options: Any, lines: list[str]
) -> None:
    """Rewrite a docstring in place, before napoleon reads its sections."""
    lines[:] = converted(lines)


def load(app: Sphinx) -> None:
    """Load what a package imports only when it is asked for, so that autodoc finds it."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            getattr(module, name)


def check(app: Sphinx, environment: BuildEnvironment) -> None:
    """Warn of a public name that no page documents: a page may show autodoc's source and look
    finished.
    """
    documented = environment.domaindata["py"]["objects"]
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            if f"{package}.{name}" not in documented:
                log.warning("%s.%s is public and on no page", package, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before napoleon, whose priority is 500; check the whole at the end."""
    app.connect("builder-inited", load)
    app.connect("env-check-consistency", check)
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
