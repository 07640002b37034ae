"""What can go wrong with the database, in words of this package."""

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

__all__ = [
    "AlreadyTaken",
    "AuthorGone",
    "DataDirectoryError",
    "DataDirectoryInUse",
    "DatabaseUnavailable",
    "DatabaseUnfit",
    "ForeignDatabase",
    "KeyReused",
    "KeyTaken",
    "NoSocketDirectory",
    "PostgresFailed",
    "PostgresNotFound",
    "RefreshRefused",
    "RenamedTooOften",
    "SchemaBehind",
    "SchemaNewer",
    "SearchRefused",
    "SearchTooSlow",
    "StoreError",
    "Throttled",
    "VersionMismatch",
    "is_transient",
]


# Out of disk, quota, memory or descriptors, and a disk that fails.
TRANSIENT = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.EIO,
}


class StoreError(Exception):
    """Base of every error of the store; never raised itself."""


def is_transient(error: OSError) -> bool:
    """Whether the same may work later with nothing changed here: there is no room, or too much to do."""
    return error.errno in TRANSIENT


class DataDirectoryError(StoreError):
    """The data directory cannot be used; `transient` where trying again may help."""

    def __init__(self, path: Path, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"the data directory {path} cannot be used: {reason}")
        self.path = path
        self.reason = reason
        self.transient = transient


class DataDirectoryInUse(DataDirectoryError):
    """A live DevNest uses the data directory: for a while, where that is a command and `transient`, or to serve."""

    def __init__(self, path: Path, pid: str, *, transient: bool = False) -> None:
        super().__init__(path, f"a running DevNest (process {pid}) uses it", transient=transient)
        self.pid = pid


class VersionMismatch(DataDirectoryError):
    """The data directory was made by another major version of PostgreSQL."""

    def __init__(self, path: Path, made_by: str, running: str) -> None:
        super().__init__(
            path,
            f"it was made by PostgreSQL {made_by} and the binaries are {running}; use pg_upgrade, or --postgres-bin",
        )
        self.made_by = made_by
        self.running = running


class PostgresNotFound(StoreError):
    """No usable PostgreSQL binaries."""


class NoSocketDirectory(StoreError):
    """No directory of the machine will do for the socket of the embedded PostgreSQL."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(
            f"no directory will do for PostgreSQL's socket ({'; '.join(reasons)}); name one by TMPDIR"
        )


class PostgresFailed(StoreError):
    """The embedded PostgreSQL did not start; worth another try, for instance when there is room on the disk again."""


class DatabaseUnavailable(StoreError):
    """The database does not answer now; worth another try after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: int = 2) -> None:
        super().__init__(f"the database does not answer: {reason}")
        self.retry_after = retry_after


class DatabaseUnfit(StoreError):
    """The database answers, and this program cannot work on it; trying again does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database cannot be used: {reason}")


class SchemaBehind(DatabaseUnfit):
    """The database's schema is older than this program needs, or there is none yet."""

    def __init__(self, found: str | None, wanted: str) -> None:
        what = f"its schema is at revision {found}" if found else "it is empty"
        super().__init__(f"{what}, this program needs {wanted}; run: devnest migrate")
        self.found = found
        self.wanted = wanted


class SchemaNewer(DatabaseUnfit):
    """A newer program has changed the schema, so that this one no longer works on it, or could not migrate it."""

    def __init__(self, found: str, oldest_program: str, ours: str) -> None:
        super().__init__(
            f"its schema is at revision {found} and serves programs from revision {oldest_program} on, this program is"
            f" of revision {ours}; use the DevNest that migrated it, or a newer one"
        )
        self.found = found
        self.oldest_program = oldest_program


class ForeignDatabase(DatabaseUnfit):
    """The database has things in it that are not DevNest's."""

    def __init__(self, example: str) -> None:
        super().__init__(
            f"it is not DevNest's and not empty ({example!r} is in it); make one for DevNest alone"
        )
        self.example = example


class AlreadyTaken(StoreError):
    """Another account has this value in `field`."""

    def __init__(self, field: str) -> None:
        super().__init__(f"this {field} is taken")
        self.field = field


class RenamedTooOften(StoreError):
    """The account has had as many new names as it may; worth another try after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        days = math.ceil(retry_after / 86_400)
        super().__init__(
            f"the name was changed too often; the next change is possible in {days} days"
        )
        self.retry_after = retry_after


class SearchRefused(StoreError):
    """What is searched for is no search; the message says what is wrong with it."""


class SearchTooSlow(StoreError):
    """A search took longer than it may; worth another try after `retry_after` seconds."""

    def __init__(self, limit_s: float, retry_after: int = 5) -> None:
        super().__init__(f"the search took longer than {limit_s:g} s; rarer words are found sooner")
        self.retry_after = retry_after


class AuthorGone(StoreError):
    """The account that writes no longer exists."""


class KeyReused(StoreError):
    """An idempotency key stands for another request."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request")


class KeyTaken(StoreError):
    """Another request with the same idempotency key was done meanwhile; its answer can be found."""


class RefreshRefused(StoreError):
    """A refresh token is not good; `reason` is `unknown`, `ended`, `inactive`, `reused` or `spent`.

    `account_id` and `session_id` say whose it is; None where it is unknown.
    """

    def __init__(
        self, reason: str, account_id: UUID | None = None, session_id: UUID | None = None
    ) -> None:
        super().__init__(f"the refresh token is refused: {reason}")
        self.reason = reason
        self.account_id = account_id
        self.session_id = session_id


class Throttled(StoreError):
    """Too many failures; worth another try after `retry_after` seconds. `first` is the first refusal of this wait.

    `waits` has the keys of the counters that say so, and how many seconds each has yet to wait.
    """

    def __init__(
        self, retry_after: int, *, first: bool, waits: Mapping[bytes, float] = MappingProxyType({})
    ) -> None:
        super().__init__(f"too many failed attempts; try again in {retry_after} s")
        self.retry_after = retry_after
        self.first = first
        self.waits = waits
