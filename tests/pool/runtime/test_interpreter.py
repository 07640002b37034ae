"""A worker imports exactly what its parent can, from its interpreter's first import on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import devnest
from devnest.pool import Pool
from tests.pool import work
from tests.pool.support import serving
from tests.traps import Traps, imported_early

ROOT = Path(devnest.__file__).parents[1]
PARENT = """
import asyncio, os, sys
if sys.flags.no_site:
    sys.path.append({root!r})
from devnest.pool import Pool
{change}
async def main():
    async with Pool(workers=1) as pool:
        own = [os.path.abspath(entry) for entry in sys.path if type(entry) is str]
        assert await pool.run(eval, "__import__('sys').path") == own
        {then}
asyncio.run(main())
"""


def run_parent(
    cwd: Path,
    *switches: str,
    change: str = "",
    then: str = "pass",
    as_script: bool = False,
    **env: str,
) -> None:
    """Run a program with a pool, which checks that its worker's path is its own."""
    program = PARENT.format(root=str(ROOT), change=change, then=then)
    if as_script:
        (cwd / "script.py").write_text(program)
    how = ["script.py"] if as_script else ["-c", program]
    run = subprocess.run(
        [sys.executable, *switches, *how],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("as_script", [False, True])
@pytest.mark.parametrize("switches", [(), ("-P",), ("-s",), ("-E",), ("-I",), ("-S",), ("-OO",)])
def test_a_worker_has_its_parents_path(
    tmp_path: Path, switches: tuple[str, ...], as_script: bool
) -> None:
    """However that was started."""
    run_parent(tmp_path, *switches, as_script=as_script, PYTHONPATH=str(ROOT))


@pytest.mark.parametrize("switches", [("-I",), ("-E", "-P")])
def test_what_its_parent_does_not_look_at_a_worker_does_not_either(
    tmp_path: Path, switches: tuple[str, ...]
) -> None:
    """PYTHONPATH and the working directory are one with a file for each module there is."""
    traps = Traps(tmp_path / "traps")
    run_parent(traps.path, *switches, PYTHONPATH=str(traps.path))
    assert traps.found == ""


def test_the_working_directory_is_the_parents_where_it_has_one(tmp_path: Path) -> None:
    """A module beside it works, one of a later working directory does not stand in its place."""
    (tmp_path / "neighbour.py").write_text("def where(): return __file__\n")
    run_parent(
        tmp_path,
        change="import neighbour",
        then="assert await pool.run(neighbour.where) == os.path.abspath('neighbour.py')",
    )


@pytest.mark.parametrize("strange", ["b'/bytes'", "None", "__import__('pathlib').Path('/path')"])
def test_an_entry_that_python_passes_over_is_not_passed_on(tmp_path: Path, strange: str) -> None:
    """Only text counts."""
    run_parent(tmp_path, change=f"sys.path.append({strange})")


async def test_a_working_directory_that_was_removed_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python passes it over."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(gone)
    gone.rmdir()
    async with Pool(workers=1) as pool:
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_server_of_its_own_imports_nothing_from_its_working_directory(
    socket_path: Path, tmp_path: Path
) -> None:
    """`python -m devnest.pool`, nor do its workers: what is in PYTHONPATH or installed, as the
    documents say.
    """
    traps = Traps(tmp_path / "traps", but=imported_early(tmp_path))
    traps.add("neighbour")
    async with serving(socket_path, cwd=traps.path), Pool.connect(f"unix://{socket_path}") as pool:
        assert await pool.run(work.add, 1, 1) == 2
        assert str(traps.path) not in await pool.run(eval, "__import__('sys').path")
    assert traps.found == ""
