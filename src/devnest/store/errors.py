"""What can go wrong with the database, in words of this package."""

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
    "KeyReused",
    "KeyTaken",
    "PostgresFailed",
    "PostgresNotFound",
    "RefreshRefused",
    "SchemaBehind",
    "StoreError",
    "Throttled",
    "VersionMismatch",
]


class StoreError(Exception):
    """Base of every error of the store; never raised itself."""


class DataDirectoryError(StoreError):
    """The data directory cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the data directory {path} cannot be used: {reason}")
        self.path = path
        self.reason = reason


class DataDirectoryInUse(DataDirectoryError):
    """A live DevNest uses the data directory."""

    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(path, f"a running DevNest (process {pid}) uses it")
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


class PostgresFailed(StoreError):
    """The embedded PostgreSQL did not start."""


class DatabaseUnavailable(StoreError):
    """The database does not answer now; worth another try after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: int = 2) -> None:
        super().__init__(f"the database does not answer: {reason}")
        self.retry_after = retry_after


class SchemaBehind(StoreError):
    """The database's schema is not the one this version works with."""

    def __init__(self, found: str | None, wanted: str) -> None:
        what = f"at revision {found}" if found else "empty"
        super().__init__(f"the database's schema is {what}, this version needs {wanted}; run: devnest migrate")
        self.found = found
        self.wanted = wanted


class AlreadyTaken(StoreError):
    """Another account has this value in `field`."""

    def __init__(self, field: str) -> None:
        super().__init__(f"this {field} is taken")
        self.field = field


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

    def __init__(self, reason: str, account_id: UUID | None = None, session_id: UUID | None = None) -> None:
        super().__init__(f"the refresh token is refused: {reason}")
        self.reason = reason
        self.account_id = account_id
        self.session_id = session_id


class Throttled(StoreError):
    """Too many failures; worth another try after `retry_after` seconds. `first` is the first refusal of this wait.

    `waits` has the keys of the counters that say so, and how many seconds each has yet to wait.
    """

    def __init__(self, retry_after: int, *, first: bool, waits: Mapping[bytes, float] = MappingProxyType({})) -> None:
        super().__init__(f"too many failed attempts; try again in {retry_after} s")
        self.retry_after = retry_after
        self.first = first
        self.waits = waits
