"""The benchmarks' `--append`: what a program printed becomes a dated record."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
# Programs have options; `kernel.py` is a part of others.
PROGRAMS = [path for path in sorted(BENCHMARKS.glob("*.py")) if "\ndef main()" in path.read_text()]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_can_append(path: Path) -> None:
    """Its help has the option, and its main function runs where the output is kept."""
    assert "report.run(main)" in path.read_text()
    shown = run(path.name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--append [DIRECTORY]" in shown.stdout


def test_what_is_printed_is_appended(tmp_path: Path) -> None:
    """The first run makes the page, the second adds to it, and a failed one leaves it as it was."""
    for _ in range(2):
        done = run("start.py", "--runs", "1", "--append", str(tmp_path))
        assert done.returncode == 0, done.stderr
    (page,) = tmp_path.iterdir()
    text = page.read_text()
    assert text.count("\n# ") + text.startswith("# ") == 1
    assert text.count("## `python benchmarks/start.py --runs 1`\n") == 2
    assert done.stdout.strip() in text
    assert str(tmp_path) not in text
    assert run("start.py", "--runs", "none", "--append", str(tmp_path)).returncode == 2
    assert page.read_text() == text


def test_failed_run_makes_no_page(tmp_path: Path) -> None:
    """Nor does a directory that is not there, and the error says so before anything is measured."""
    assert run("start.py", "--runs", "none", "--append", str(tmp_path)).returncode == 2
    assert list(tmp_path.iterdir()) == []
    failed = run("start.py", "--append", str(tmp_path / "missing"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("cannot append to ")
    assert failed.stderr.endswith(".md: No such file or directory\n")
