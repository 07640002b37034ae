"""The kernel's own suite, the digits of pi, and the build with and without a compiler."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which(os.environ.get("CC", "cc"))
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in full, its output in the failure."""
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build needs, so that nothing is built in the working tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("native", "src"):
        ignored = shutil.ignore_patterns("build", "*.so", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    return copy


def test_initial_state_is_pi(tmp_path: Path) -> None:
    """The table is what pi.py computes, and one changed digit is noticed."""
    for name in ("pi.py", "initial.h"):
        shutil.copy(ROOT / "native" / name, tmp_path)
    run(sys.executable, tmp_path / "pi.py")
    table = tmp_path / "initial.h"
    text = table.read_text()
    assert "0x243f6a88, 0x85a308d3" in text
    table.write_text(text.replace("0x243f6a88", "0x243f6a89"))
    assert subprocess.run([sys.executable, tmp_path / "pi.py"], capture_output=True).returncode == 1
    run(sys.executable, tmp_path / "pi.py", "--write")
    assert table.read_text() == text


@needs_compiler
def test_native_suite(source: Path) -> None:
    """make -C native test, with the vectors of the two lowest costs."""
    assert " 0 wrong" in run("make", "-C", source / "native", "test", "MAX_COST=5").stdout


def build_wheel(source: Path, to: Path, **variables: str) -> tuple[str, list[str], str]:
    """The wheel's file name, what is in it, and what the build said."""
    said = run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose"),
        *("--no-build-isolation", "--no-deps", "--wheel-dir", to, source),
        **variables,
    )
    (wheel,) = to.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return wheel.name, archive.namelist(), said.stdout + said.stderr


def test_without_a_compiler_the_build_succeeds(source: Path, tmp_path: Path) -> None:
    """The wheel is whole but for the extension, and the build says so."""
    _, names, said = build_wheel(source, tmp_path, CC="/bin/false")
    assert "devnest/bcrypt/__init__.py" in names
    assert not [name for name in names if name.endswith(".so")]
    assert 'building extension "devnest.bcrypt._kernel" failed' in said
