"""The errors of the store."""

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
]


class StoreError(Exception):
    """The base of every error of the store. It is never raised itself."""


class DataDirectoryError(StoreError):
    """The data directory cannot be used.

    Attributes:
        path: The data directory.
        reason: Why it cannot be used.
        transient: Whether another try may succeed.
    """

    def __init__(self, path: Path, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"the data directory {path} cannot be used: {reason}")
        self.path = path
        self.reason = reason
        self.transient = transient


class DataDirectoryInUse(DataDirectoryError):
    """Another running DevNest uses the data directory.

    Attributes:
        pid: Its process id, as text.
        transient: True if it is a command that will soon end, False if it serves.
    """

    def __init__(self, path: Path, pid: str, *, transient: bool = False) -> None:
        super().__init__(path, f"a running DevNest (process {pid}) uses it", transient=transient)
        self.pid = pid


class VersionMismatch(DataDirectoryError):
    """Another major version of PostgreSQL created the data directory."""

    def __init__(self, path: Path, made_by: str, running: str) -> None:
        super().__init__(
            path,
            f"it was made by PostgreSQL {made_by} and the binaries are {running};"
            " use pg_upgrade, or --postgres-bin",
        )
        self.made_by = made_by
        self.running = running


class PostgresNotFound(StoreError):
    """No usable PostgreSQL programs were found."""


class NoSocketDirectory(StoreError):
    """No directory of the machine can hold the socket of the embedded PostgreSQL."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(
            f"no directory is usable for PostgreSQL's socket ({'; '.join(reasons)});"
            " name one with TMPDIR"
        )


class PostgresFailed(StoreError):
    """The embedded PostgreSQL did not start. Another try may succeed."""


class DatabaseUnavailable(StoreError):
    """The database does not answer now.

    Attributes:
        retry_after: How many seconds to wait before another try.
    """

    def __init__(self, reason: str, retry_after: int = 2) -> None:
        super().__init__(f"the database does not answer: {reason}")
        self.retry_after = retry_after


class DatabaseUnfit(StoreError):
    """The database answers, but this program cannot work with it. Retrying does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database cannot be used: {reason}")


class SchemaBehind(DatabaseUnfit):
    """The schema is older than this program needs, or missing."""

    def __init__(self, found: str | None, wanted: str) -> None:
        what = f"its schema is at revision {found}" if found else "it is empty"
        super().__init__(f"{what}, this program needs {wanted}; run: devnest migrate")
        self.found = found
        self.wanted = wanted


class SchemaNewer(DatabaseUnfit):
    """A newer program has migrated the schema, and this program no longer works with it."""

    def __init__(self, found: str, oldest_program: str, ours: str) -> None:
        super().__init__(
            f"its schema is at revision {found} and serves programs from revision {oldest_program}"
            f" on, this program is of revision {ours}; use the DevNest that migrated it, or a newer"
            " one"
        )
        self.found = found
        self.oldest_program = oldest_program


class ForeignDatabase(DatabaseUnfit):
    """The database contains objects that are not DevNest's.

    Attributes:
        example: The name of one of them.
    """

    def __init__(self, example: str) -> None:
        super().__init__(
            f"it is not DevNest's and not empty ({example!r} is in it); make one for DevNest alone"
        )
        self.example = example


class AlreadyTaken(StoreError):
    """Another account has this value.

    Attributes:
        field: `username` or `email`.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"this {field} is taken")
        self.field = field


class RenamedTooOften(StoreError):
    """The account has changed its name as often as it may.

    Attributes:
        retry_after: How many seconds until the name may change again.
    """

    def __init__(self, retry_after: int) -> None:
        days = math.ceil(retry_after / 86_400)
        super().__init__(
            f"the name was changed too often; the next change is possible in {days} days"
        )
        self.retry_after = retry_after


class SearchRefused(StoreError):
    """The search is not valid. The message says why."""


class SearchTooSlow(StoreError):
    """PostgreSQL ended a search that took too long.

    Attributes:
        retry_after: How many seconds to wait before another try.
    """

    def __init__(self, limit_s: float, retry_after: int = 5) -> None:
        super().__init__(f"the search took longer than {limit_s:g} s; rarer words are found sooner")
        self.retry_after = retry_after


class AuthorGone(StoreError):
    """The account of the author no longer exists."""


class KeyReused(StoreError):
    """The idempotency key was used before, for another request."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request")


class KeyTaken(StoreError):
    """A concurrent request with the same idempotency key has finished; its answer is stored."""


class RefreshRefused(StoreError):
    """A refresh token is refused.

    Attributes:
        reason: `unknown`, `ended`, `inactive`, `reused` or `spent`.
        account_id: The token's account, or None if the token is unknown.
        session_id: The token's session, or None if the token is unknown.
    """

    def __init__(
        self, reason: str, account_id: UUID | None = None, session_id: UUID | None = None
    ) -> None:
        super().__init__(f"the refresh token is refused: {reason}")
        self.reason = reason
        self.account_id = account_id
        self.session_id = session_id


class Throttled(StoreError):
    """There were too many failures.

    Attributes:
        retry_after: How many seconds until the next try is allowed.
        first: Whether this is the first refusal since the wait began.
        waits: The keys of the counters that refuse, with the seconds each has yet to wait.
    """

    def __init__(
        self, retry_after: int, *, first: bool, waits: Mapping[bytes, float] = MappingProxyType({})
    ) -> None:
        super().__init__(f"too many failed attempts; try again in {retry_after} s")
        self.retry_after = retry_after
        self.first = first
        self.waits = waits
