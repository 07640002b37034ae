"""The data directory and its files."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from devnest.store import DataDirectory, DataDirectoryError, PostgresNotFound, default_data_dir
from devnest.store.postgres.binaries import Identity


def test_it_is_made_private(tmp_path: Path) -> None:
    """Whatever the umask; root's PostgreSQL user may pass through but not look."""
    umask = os.umask(0)
    try:
        directory = DataDirectory(tmp_path / "a" / "b")
        directory.open()
        directory.close()
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == (
        0o711 if os.geteuid() == 0 else 0o700
    )


def test_one_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    """It is not ours to change."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    directory = DataDirectory(tmp_path / "data")
    directory.open()
    directory.close()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o755


@pytest.mark.parametrize("what", ["file", "below a file", "lock is a link"])
def test_an_unusable_path_is_named(tmp_path: Path, what: str) -> None:
    """One error with the path and the reason."""
    path = tmp_path / "data"
    if what == "lock is a link":
        path.mkdir()
        (path / "lock").symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("a file")
        path = path / "below" if what == "below a file" else path
    with pytest.raises(DataDirectoryError, match="cannot be used"):
        DataDirectory(path).open()
    assert not (tmp_path / "elsewhere").exists()


def test_the_default_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG for people, /var/lib for root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert default_data_dir() == Path("/elsewhere/devnest")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_dir() == Path.home() / ".local/share/devnest"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/devnest")


# As in a container that runs under a number of its own: not root, and not in the list of users.
NAMELESS = "import os; os.geteuid = lambda: 54321; from devnest.cli import main; main()"


@pytest.mark.parametrize("home", [None, "", "relative"])
@pytest.mark.parametrize(
    "command", [["serve"], ["migrate"], ["keys", "list"], ["user", "sessions", "ada"]]
)
def test_a_user_without_a_home_is_told_the_option(home: str | None, command: list[str]) -> None:
    """One line, and the status of the data directory."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")
    }
    run = subprocess.run(
        [sys.executable, "-c", NAMELESS, *command], capture_output=True, text=True, check=False, timeout=120,
        env=environment if home is None else environment | {"HOME": home},
    )  # fmt: skip
    assert run.returncode == 4, run.stderr
    assert "--data-dir" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_user_without_a_name_is_told_what_helps() -> None:
    """initdb makes no database for one; said before it is asked."""
    with pytest.raises(PostgresNotFound, match=r"54321.* --database-url"):
        Identity(54321, 54321).check_name()
