"""What the pages about the load generator say exists, and their example runs."""

import re
from pathlib import Path

import pytest
import typer.main

from devnest.cli.commands import app
from devnest.load import Plan, constant, run
from devnest.load.metrics import METRICS
from devnest.load.profiles import PROFILES
from devnest.load.thresholds import parse_threshold
from tests.load.targets import DevNest, serving

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "load.md").read_text(encoding="utf-8")
GUIDE = (DOCS / "how-to" / "load.md").read_text(encoding="utf-8")
PAGE = REFERENCE + GUIDE


def options_of(command: str) -> set[str]:
    devnest = typer.main.get_command(app)
    parameters = devnest.get_command(typer.Context(devnest), command).params  # type: ignore[attr-defined]
    return {
        name
        for option in parameters
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }


def test_every_documented_option_exists() -> None:
    """Those of `devnest serve` besides, which has to be started for a load test.

    The list of all is generated.
    """
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    others = {"--no-limits", "--hash-cost", "--data-dir", "--database-url", "--management"}
    assert others <= options_of("serve")
    of_others = {
        "--yes",
        "--runs",
        "--seconds",
    }  # `devnest user remove-load-tests`, `make bench-k6`
    assert found - options_of("load") == others | of_others


def test_every_metric_and_profile_is_documented() -> None:
    for name in (*METRICS, *PROFILES):
        assert f"`{name}`" in PAGE


def test_the_thresholds_of_the_page_are_understood() -> None:
    found = re.findall(r"--threshold '([^']+)'", PAGE)
    assert len(found) >= 3
    for text in found:
        parse_threshold(text)


@pytest.mark.parametrize("setting", re.findall(r"--set (\w+=\w+)", PAGE))
def test_the_settings_of_the_page_exist(setting: str) -> None:
    name = setting.partition("=")[0]
    assert any(hasattr(profile, name) for profile in PROFILES.values())


async def test_the_example_profile_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "readers.py").write_text(example[1])
    async with serving(DevNest()) as target:
        plan = Plan(
            target.url,
            f"{tmp_path}/readers.py:Readers",
            stages=constant(3, 0.5),
            settings={"think_s": "0.05"},
        )
        result = await run(plan)
    assert {"register", "login", "feed", "own account"} == set(result.names)
    assert result.trend("feed", expected=True).count > 3
