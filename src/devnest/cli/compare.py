"""`devnest compare`: two or more results beside each other."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnest.cli.files import refuse_unwritable
from devnest.experiment.compare import COLUMNS, compared_rows, comparison, read_entries
from devnest.load import BadPlan

__all__ = ["compare"]

_FAILED, _BAD_OPTION = 1, 2


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="JSON files of devnest bench, of devnest load --summary-export, or of k6's "
            "--summary-export.",
            show_default=False,
        ),
    ],
    report: Annotated[
        Path | None, typer.Option(help="Write a page with charts to this HTML file.")
    ] = None,
) -> None:
    """Show two or more results beside each other, with ratios to the first one.

    Exit status: 0 success, 1 the report could not be written, 2 a file holds no result.
    """
    try:
        entries = read_entries(files)
        if len(entries) < 2:
            raise BadPlan("there is one result only; name another file")
        if report is not None:
            if any(report.absolute() == path.absolute() for path in files):
                raise BadPlan(f"--report would overwrite {report}")
            refuse_unwritable(report)
    except BadPlan as error:
        sys.stderr.write(f"devnest: {error}\n")
        raise typer.Exit(_BAD_OPTION) from None
    table = Table()
    for index, heading in enumerate(COLUMNS):
        table.add_column(
            heading,
            justify="right" if index else "left",
            overflow="fold",
            no_wrap=bool(index),
        )
    for row in compared_rows(entries):
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)
    if report is not None:
        command = shlex.join(["devnest", *sys.argv[1:]])
        try:
            report.write_text(comparison(entries, command), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"devnest: cannot write {report}: {error.strerror}\n")
            raise typer.Exit(_FAILED) from None
