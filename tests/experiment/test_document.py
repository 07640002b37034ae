"""The section of a page, and the documentation of the command."""

import re
from pathlib import Path

import pytest
import typer.main

from devnest.cli.commands import app
from devnest.experiment import Run, Trouble, check_section, section, write_section
from devnest.experiment.designs import DEFAULT_DESIGNS
from devnest.load import BadPlan
from tests.experiment.results import loaded, measured, session

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- devnest bench: experiment -->", "<!-- /devnest bench: experiment -->"


def test_only_the_section_changes(tmp_path: Path) -> None:
    """Writing the section twice gives the same page."""
    page = tmp_path / "page.md"
    page.write_text(f"# Above\n{BEGIN}\nold\n{END}\nbelow\n", encoding="utf-8")
    for _ in range(2):
        write_section(page, measured())
        assert (
            page.read_text(encoding="utf-8")
            == f"# Above\n{BEGIN}\n{section(measured())}{END}\nbelow\n"
        )


def test_the_section_says_how_it_was_measured_and_what_is_missing() -> None:
    some = measured(runs=2)
    some.node = "20.1.0"
    some.add(Run.of("pool", 2, loaded(0.04, busy=True)))
    some.troubles = [Trouble("node-piscina", "skipped", "node is not installed", [])]
    text = section(some)
    assert (
        "`devnest bench --profile experiment --hash-cost 10 --runs 2 "
        "--designs inline,pool,node-piscina`"
    ) in text
    assert "A processor, 2 cores, Linux 6" in text
    assert "Node 20.1.0" in text
    assert r"| Before \| <b> | 2 | 90 |" in text
    assert "After, run 2, is void" in text
    assert "Node: skipped, node is not installed." in text
    assert (
        len(
            {
                line.replace(r"\|", "").count("|")
                for line in text.splitlines()
                if line.startswith("|")
            }
        )
        == 1
    )
    assert "No run is valid." in section(session())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no section to write"),
        (BEGIN, "has no section to write"),
        (f"{END}\n{BEGIN}", "has no section to write"),
        (f"{BEGIN}\n{END}\n{BEGIN}\n{END}", "has no section to write"),
    ],
)
def test_a_page_without_the_section_is_refused(text: str, words: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(BadPlan, match=words):
        check_section(page, "experiment")


def test_a_page_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="cannot read"):
        check_section(tmp_path / "none.md", "experiment")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe")
    with pytest.raises(BadPlan, match="is not text"):
        check_section(tmp_path / "bytes.md", "experiment")


@pytest.mark.parametrize(
    ("page", "profile"),
    [("docs/performance.md", "experiment"), ("docs/performance.md", "stress")],
)
def test_the_pages_of_the_repository_have_their_sections(page: str, profile: str) -> None:
    check_section(ROOT / page, profile)


def test_every_documented_option_exists_and_every_design_is_documented() -> None:
    guide = (ROOT / "docs" / "how-to" / "experiment.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "explanation" / "experiment.md").read_text(encoding="utf-8")
    devnest = typer.main.get_command(app)
    context = typer.Context(devnest)
    commands = [devnest.get_command(context, name) for name in ("bench", "compare", "load")]  # type: ignore[attr-defined]
    options = {
        name
        for command in commands
        for option in command.params
        for name in option.opts
        if name.startswith("--")
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", guide)) <= options
    for name in DEFAULT_DESIGNS:
        assert f"`{name}`" in page
