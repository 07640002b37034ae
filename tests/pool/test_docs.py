"""What the pages about the pool name exists."""

import inspect
import re
import subprocess
import sys

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
        re.findall(r"--[a-z-]+", "".join(re.findall(r"python -m devnest.pool.*", GUIDE)))
    ) | {"--allow"}:
        assert option in answer.stdout


def test_the_example_of_the_guide_runs(tmp_path: "object") -> None:
    """Its first script, as it is printed, with a module as it asks for."""
    script = GUIDE.split("```python\n", 1)[1].split("```", 1)[0]
    directory = str(tmp_path)
    (ROOT / directory / "script.py").write_text(script)
    (ROOT / directory / "hashing.py").write_text("def fingerprint(data): return len(data)\n")
    answer = subprocess.run(
        [sys.executable, "script.py"], cwd=directory, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "9\n"
