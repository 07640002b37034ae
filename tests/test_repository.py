"""What several files of the repository say about the same thing agrees."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


def toml(name: str) -> dict[str, Any]:
    """A TOML file of the repository."""
    return tomllib.loads((ROOT / name).read_text())


def yaml(path: Path) -> dict[str, Any]:
    """A YAML file."""
    content: dict[str, Any] = msgspec.yaml.decode(path.read_bytes(), strict=False)
    return content


def test_the_versions_of_python_agree() -> None:
    """The package promises the versions that CI tests, and every tool knows the oldest of them."""
    settings = toml("pyproject.toml")
    project, tools = settings["project"], settings["tool"]
    promised = [
        line.rpartition(" ")[2]
        for line in project["classifiers"]
        if re.search(r":: Python :: \d\.\d+$", line)
    ]
    oldest, newest = promised[0], promised[-1]
    compact = [version.replace(".", "") for version in (oldest, newest)]

    matrix = yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]["strategy"][
        "matrix"
    ]
    assert matrix["python"] == promised

    assert project["requires-python"] == f">={oldest}"
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == f"py{compact[0]}"
    assert tools["cibuildwheel"]["build"] == f"cp{compact[0]}-* cp{compact[1]}-*"
    setup = (ROOT / "setup.py").read_text()
    assert f'"py_limited_api": "cp{compact[0]}"' in setup
    assert f'"0x03{int(oldest.partition(".")[2]):02X}0000"' in setup


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_run_pinned_actions(path: Path) -> None:
    """A tag can be moved to other code, a commit cannot.

    No job gets a secret or the right to write.
    """
    workflow, text = yaml(path), path.read_text()
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert "secrets" not in text
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    for package in re.findall(r"pipx run (\S+)", text):
        assert re.fullmatch(r"[a-z]+==[0-9.]+", package), package


def test_the_hooks_run_the_programs_of_make_lint_at_their_pinned_versions() -> None:
    """`make lint` and a commit run the same programs from .venv, at the versions of
    `constraints.txt`.
    """
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    linted = set(re.findall(r"\$\(BIN\)/([a-z-]+)", recipe))
    hooks = [
        hook for repo in yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    programs = {hook["entry"].split()[0] for hook in hooks}
    assert programs == {f".venv/bin/{name}" for name in linted}
    pinned = {
        canonicalize_name(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert linted <= pinned
    assert all(hook["language"] == "system" for hook in hooks)
