"""A directory with a file for each module there is, which tells that it was imported where
another was meant.
"""

import pkgutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# That others try to import and do without, besides all there are.
OPTIONAL = {
    "better_exceptions",
    "orjson",
    "picologging",
    "sitecustomize",
    "ujson",
    "usercustomize",
    "yaml",
}
TRAP = """
import posix
posix.write(posix.open({found!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND), b"{name} ")
raise ImportError("this is a trap")
"""
PROBE = 'import sys; print("\\n".join(name.partition(".")[0] for name in sys.modules))'


class Traps:
    """The directory, and what was found in it."""

    def __init__(self, path: Path, *, but: set[str] | frozenset[str] = frozenset()) -> None:
        self.path = path
        path.mkdir()
        installed = {
            module.name for module in pkgutil.iter_modules([sysconfig.get_path("purelib")])
        }
        for name in (sys.stdlib_module_names | installed | OPTIONAL) - but - {"posix"}:
            self.add(name)

    def add(self, name: str) -> None:
        """Make one for a module."""
        (self.path / f"{name}.py").write_text(
            TRAP.format(found=str(self.path / "FOUND"), name=name)
        )

    @property
    def found(self) -> str:
        """The modules that were run."""
        return found.read_text() if (found := self.path / "FOUND").exists() else ""


def imported_early(directory: Path) -> set[str]:
    """What `python -m` itself imports, before any line of its module runs: no program can help
    that.
    """
    (directory / "probe.py").write_text(PROBE)
    run = subprocess.run(
        [sys.executable, "-m", "probe"], cwd=directory, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())
