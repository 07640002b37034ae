"""What the pages about the pool name exists."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from devnest import pool as package
from devnest.pool import Pool, Stats
from tests.pool.support import ROOT

TEXT = (ROOT / "docs" / "reference" / "pool.md").read_text()
GUIDE = (ROOT / "docs" / "how-to" / "pool.md").read_text()


def section(title: str) -> str:
    """Return a section of the page, up to the next heading."""
    return TEXT.split(title, 1)[1].split("\n#", 1)[0]


def test_options_of_the_reference_are_those_of_the_pool() -> None:
    """All of them, and no other."""
    rows = [
        line.split("|")[1]
        for line in section("## `Pool(workers=None").splitlines()
        if line.startswith("| `")
    ]
    named = set(re.findall(r"`(\w+)`", "".join(rows)))
    assert named == set(inspect.signature(Pool).parameters)


def test_errors_of_the_reference_are_those_of_the_package() -> None:
    """Every error the package exports is explained."""
    named = set(re.findall(r"`(\w+)`", section("## Errors")))
    exported = {
        name
        for name in package.__all__
        if isinstance(getattr(package, name), type)
        and issubclass(getattr(package, name), package.PoolError)
    }
    assert exported - {"PoolError"} <= named


def test_fields_of_stats_are_explained() -> None:
    """Every field of a reading."""
    assert set(Stats.__dataclass_fields__) <= set(re.findall(r"\w+", section("## `stats()`")))


def test_options_of_the_command_exist() -> None:
    """Those the page uses are in the help."""
    answer = subprocess.run(
        [sys.executable, "-m", "devnest.pool", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for option in set(
        re.findall(r"--[a-z-]+", "".join(re.findall(r"python -m devnest.pool serve.*", GUIDE)))
    ) | {"--allow"}:
        assert option in answer.stdout


def test_the_example_of_the_guide_runs(tmp_path: Path) -> None:
    """Its first script, as it is printed, with a module as it asks for."""
    assert output_of(GUIDE.split("```python\n", 1)[1].split("```", 1)[0], tmp_path) == "9\n"


def test_the_example_of_an_executor_runs(tmp_path: Path) -> None:
    """The script as it is printed."""
    section = GUIDE.split("## In Flask", 1)[1]
    script = section.split("```python\n", 1)[1].split("```", 1)[0]
    assert output_of(script, tmp_path) == "9\n[3, 5]\n"


def output_of(script: str, directory: Path) -> str:
    """Run a script beside the module that it asks for."""
    (directory / "script.py").write_text(script)
    (directory / "hashing.py").write_text("def fingerprint(data): return len(data)\n")
    return subprocess.run(
        [sys.executable, "script.py"], cwd=directory, capture_output=True, text=True, check=True
    ).stdout
