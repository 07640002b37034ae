"""What the documentation names exists."""

import re
import subprocess
import sys
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from devnest.cli.commands import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_targets_exist(page: Path) -> None:
    """Files that are linked, and targets of make."""
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][a-z0-9-]*)", text)) <= targets


@cache
def help_of(command: str) -> str:
    """What `devnest COMMAND --help` prints."""
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_exist(page: Path) -> None:
    """Every option written after `devnest COMMAND` is one of that command."""
    for command, rest in re.findall(r"devnest ([a-z]+)((?: --?[a-z][^`\n]*)?)", page.read_text()):
        if not rest:
            continue
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in help_of(command), f"{command} {option}"


def test_the_tests_that_the_pages_on_security_name_exist() -> None:
    """A promise without a test would be found out; each item of ASVS has a number of its form."""
    standard = (ROOT / "docs" / "reference" / "asvs.md").read_text()
    text = (ROOT / "docs" / "explanation" / "security.md").read_text() + standard
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`", text)
    assert len(named) > 100
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(), f"{path}::{test}"
    rows = re.findall(r"^\| ([\d., ]+) \|", standard, re.MULTILINE)
    items = [item for row in rows for item in row.split(", ")]
    assert len(items) == len(set(items)) > 50
    assert all(re.fullmatch(r"\d{1,2}\.\d\.\d{1,2}", item) for item in items)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_wrap_at_100_characters(page: Path) -> None:
    """Of text: a row of a table is one line, a link is whole, and `devnest bench` writes a
    section as it is.
    """
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(
        r"^<!-- devnest bench: .*?^<!-- /devnest bench", "", text, flags=re.MULTILINE | re.DOTALL
    )
    wide = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert [
        line for line in wide if " " in re.sub(r"\[[^]]*\]\([^)]*\)", "", line.strip("- "))
    ] == []


def test_the_readme_and_the_page_on_performance_are_short() -> None:
    """A newcomer reads them to the end."""
    for page in ("README.md", "docs/performance.md"):
        assert len((ROOT / page).read_text().splitlines()) <= 120, page


def test_the_readme_shows_the_figures_of_the_experiment() -> None:
    """Its table and its picture have what `devnest bench` wrote into the page on performance."""
    page = (ROOT / "docs" / "performance.md").read_text()
    picture = ROOT / "docs" / "_static" / "experiment.svg"
    command = [sys.executable, str(ROOT / "docs" / "chart.py"), "--stdout"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == picture.read_text()
    )
    measured = [cells(line) for line in page.splitlines() if line.startswith("| ")]
    readme = (ROOT / "README.md").read_text()
    shown = [cells(row) for row in re.findall(r"^\| .*[0-9] m?s \|$", readme, re.MULTILINE)]
    assert len(shown) == 4
    for _, rate, p95, p95_of_post in shown:
        figures = {rate, p95.replace(" ", ""), p95_of_post.replace(" ", "")}
        assert any(figures <= set(row) for row in measured), figures


def cells(row: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_modules_that_the_architecture_names_exist() -> None:
    """The journeys lead through real files; a move has to take the page along."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", text)) - {"native/", "tests/test_layers.py"}
    assert len(named) > 40
    assert {name for name in named if not (ROOT / "src" / "devnest" / name).exists()} == set()
    for journey in ("A password, from", "A post, from", "A request of a virtual user"):
        steps = text.split(f"## {journey}", 1)[1].split("\n## ")[0].split("\n1. ", 1)[1]
        assert all(".py`" in step for step in re.split(r"\n\d+\. ", steps)), journey


def test_every_error_and_metric_is_explained() -> None:
    """Names are looked for in the source, so a new one needs its line in the reference."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    reference = ROOT / "docs" / "reference"
    explained = set(re.findall(r"urn:devnest:([a-z-]+)", (reference / "errors.md").read_text()))
    assert set(re.findall(r"urn:devnest:([a-z-]+)", source)) <= explained
    assert len(explained) > 20
    begin, end = (
        "http_server|event_loop|db_client|mail|log_lines|process",
        "total|seconds|bytes|count|requests|waiting",
    )
    metrics = set(re.findall(rf'"((?:{begin})_[a-z_]*(?:{end}))"', source))
    assert len(metrics) > 10
    text = (reference / "metrics.md").read_text()
    # The series of a histogram's count has no line of its own.
    explained = {name for name in metrics if f"`{name}`" in text}
    counts = {name for name in metrics if f"`{name.removesuffix('_count')}`" in text}
    assert metrics == explained | counts


def test_what_is_installed_is_pinned() -> None:
    """`constraints.txt` has every package that `make test` installs, at its version: CI tests
    what users get.
    """
    lines = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    pinned = {canonicalize_name(name): version for name, version in lines}
    seen = {("devnest", "dev")}
    waiting = list(seen)
    while waiting:
        package, extra = waiting.pop()
        for line in requires(package) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                name = canonicalize_name(needed.name)
                is_own_extra = (
                    name == "devnest"
                )  # `devnest[docs,eddsa]`, as the extra dev asks for it
                assert is_own_extra or pinned.get(name) == version(name), f"{name}, for {package}"
                asked = {(name, "")} | {(name, wanted) for wanted in needed.extras}
                waiting += asked - seen
                seen |= asked
    assert len(seen) > 50


def test_names_of_the_pool_are_listed_before_their_first_use() -> None:
    """They are loaded then, and their reference page is made from this list."""
    program = "import devnest.pool as pool; print(set(pool.__all__) <= set(dir(pool)))"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "True\n"
