"""The `devnest` command itself."""

from typer.testing import CliRunner

from devnest import __version__
from devnest.cli.commands import app
from devnest.cli.names import COMMANDS


def test_it_says_its_version_and_its_commands() -> None:
    """Without loading any of them for the version."""
    assert CliRunner().invoke(app, ["--version"]).stdout == f"DevNest {__version__}\n"
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(command in help_text for command in COMMANDS)
