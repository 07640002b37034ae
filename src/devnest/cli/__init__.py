"""The `devnest` command: it alone reads options and the environment."""

import sys

import typer

from devnest.cli.bench import bench
from devnest.cli.calibrate import calibrate
from devnest.cli.load import load
from devnest.cli.migrate import migrate
from devnest.cli.serve import serve
from devnest.cli.user import user

__all__ = ["app", "main"]

app = typer.Typer(
    help="DevNest: a developers' community backend that stays fast while it hashes passwords.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(migrate)
app.command()(calibrate)
app.add_typer(user, name="user")
app.command()(load)
app.command()(bench)


def main() -> None:
    """The entry point."""
    sys.exit(app())
