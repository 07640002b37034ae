"""Commands without the extra that they need: one line with the remedy.

Tests/test_packaging.py installs the extras.
"""

import pickle
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devnest.cli.names import COMMANDS
from devnest.extras import OPTIONAL_MODULES, MissingExtra

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))  # None: to the import system they are not there
from devnest.cli import main
main()
"""


def devnest(missing: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process to which some modules, with commas between, are not there."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("command", "extra"), COMMANDS.items())
@pytest.mark.parametrize("missing", [pytest.param(",".join(sorted(OPTIONAL_MODULES)), id="bare")])
def test_a_command_names_its_extra(missing: str, command: str, extra: str) -> None:
    """Whatever its options are, even --help."""
    for options in ([], ["--help"], ["--no-such-option", "x"]):
        done = devnest(missing, command, *options)
        line = f"devnest: devnest {command} needs an extra that is not installed: pip install 'devnest[{extra}]'\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("--version",), ("nonsense",)], ids=" ".join
)
def test_without_any_extra_there_is_no_command(arguments: tuple[str, ...]) -> None:
    """One line with the extras there are."""
    done = devnest("typer", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "devnest: the devnest command needs an extra that is not installed: pip install"
    )
    assert all(f"'devnest[{extra}]'" in line for extra in set(COMMANDS.values()))


def test_commands_without_their_extra_are_marked_in_the_help() -> None:
    """The others are described, and work."""
    missing = "structlog,asyncpg"
    done = devnest(missing, "--help")
    assert done.returncode == 0, done.stderr
    marked = [
        line.split()[1]
        for line in done.stdout.splitlines()
        if "Not installed: pip install 'devnest[" in line
    ]
    assert marked == ["serve", "migrate", "user", "keys", "bench"]
    assert "Drive a running DevNest" in done.stdout
    assert devnest(missing, "load", "--help").returncode == 0
    refused = devnest(missing, "serve", "--port=0")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "pip install 'devnest[server]'" in refused.stderr


def test_a_module_of_ours_that_is_missing_is_a_traceback() -> None:
    """It is a mistake, which no extra mends."""
    done = devnest("devnest.load", "load", "--help")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_every_optional_dependency_is_known() -> None:
    """`OPTIONAL_MODULES` has the modules of what the extras for users name, and no other."""
    modules: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(canonicalize_name(name), set()).add(module)
    known = set()
    for requirement in map(Requirement, requires("devnest") or []):
        extras = [
            extra
            for extra in ("argon2", "eddsa", "load", "otel", "server")
            if _asks(requirement, extra)
        ]
        if extras and requirement.name != "devnest":
            found = modules[canonicalize_name(requirement.name)] & OPTIONAL_MODULES
            assert found, f"{requirement.name} of {extras}"
            known |= found
    assert known == OPTIONAL_MODULES


def _asks(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return (
        marker is not None
        and not marker.evaluate({"extra": ""})
        and marker.evaluate({"extra": extra})
    )


def test_the_error_survives_the_way_from_a_worker() -> None:
    """With its message and what it knows."""
    error = pickle.loads(pickle.dumps(MissingExtra("argon2id", "argon2")))  # noqa: S301
    assert (
        str(error) == "argon2id needs an extra that is not installed: pip install 'devnest[argon2]'"
    )
    assert (error.part, error.extra) == ("argon2id", "argon2")


def test_traces_name_their_extra() -> None:
    """`serve` works without it, until traces are asked for."""
    asked = ("serve", "--otlp-endpoint=http://user:geheim@127.0.0.1:4318")
    done = devnest("opentelemetry", *asked)
    line = "devnest: --otlp-endpoint needs an extra that is not installed: pip install 'devnest[otel]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert devnest("opentelemetry", "serve", "--help").returncode == 0
