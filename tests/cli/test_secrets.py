"""No output of any command has a password of a URL in it, whatever is wrong with the URL."""

import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app

SECRET = "geheim"
URLS = [
    *(f"{{scheme}}://user:{SECRET}{character}{SECRET}@{host}"
      for character in "#/?@%[] \n\té" for host in ("127.0.0.1:1", "[::1", "127.0.0.1:99999", "127.0.0.1:1?x=y")),
    f"{{scheme}}://user:1{SECRET}#@127.0.0.1:1",
    f"{{scheme}}://user:1/{SECRET}@127.0.0.1:1/name",
    f"{{scheme}}://user:1?{SECRET}=1@127.0.0.1:1/name",
    f"{{scheme}}://127.0.0.1:1/name?{SECRET}=1",
    f"{{scheme}}://127.0.0.1:1/name?password={SECRET}#",
    f"{{scheme}}://127.0.0.1:1/name?sslmode={SECRET}",
    f"other://user:{SECRET}@127.0.0.1:1",
    f"user:{SECRET}@127.0.0.1:1",
    f"{SECRET}://{SECRET}",
]  # fmt: skip
COMMANDS = {
    "--database-url": ("postgresql", [["serve"], ["migrate"], ["user", "sessions", "ada"]]),
    "--smtp-url": ("smtps", [["serve"]]),
    "--otlp-endpoint": ("https", [["serve"]]),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_cannot_be_used_is_one_line_without_it(url: str) -> None:
    """By the option and by its variable: status 2, and which option it is."""
    for option, (scheme, commands) in COMMANDS.items():
        variable = f"DEVNEST_{option[2:].replace('-', '_').upper()}"
        text = url.format(scheme=scheme)
        for command in commands:
            for arguments, environment in (
                ([*command, option, text], {}),
                (command, {variable: text}),
            ):
                run = CliRunner().invoke(app, arguments, env=environment)
                assert SECRET not in run.output
                assert (run.exit_code, run.output.count("\n")) == (2, 1), run.output
                assert run.output.startswith(f"devnest: {option}: ")


@pytest.mark.parametrize("url", URLS)
def test_a_target_of_the_load_generator_is_refused_without_it(url: str) -> None:
    """It has no user and no password at all."""
    run = CliRunner().invoke(app, ["load", url.format(scheme="http")])
    assert SECRET not in run.output
    assert (run.exit_code, run.output.count("\n")) == (2, 1), run.output
