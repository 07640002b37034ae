"""Which failures say "no database now", and which of those leave a connection that can be used again.

By whole classes of SQLSTATE, since what PostgreSQL, its host or a pooler in between can say is a long list.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import asyncio

import asyncpg

from devnest.store.errors import DatabaseUnavailable

__all__ = [
    "TRANSLATE_ERRORS",
    "is_read_only_error",
    "is_unavailable",
    "leaves_reusable",
    "reason_of",
]

# Class 22, 23 or 42 is about a statement and its values: ours to mend. These are about the database, or the moment.
UNAVAILABLE = (
    "08",  # the connection
    "25006",  # it is read-only: a standby, or one that is being moved
    "25P03",  # this session was idle for too long
    "25P04",  # this transaction took too long
    "28",  # the role, or its password
    "3D",  # the database is not there
    "3F",  # the schema is not there
    "40",  # the transaction was rolled back: a deadlock, or a conflict with recovery
    "42501",  # the role lacks a right
    "42P01",  # a table is not there: a backup is being put back
    "53",  # disk, memory, connections
    "55P03",  # a lock was not to be had
    "57",  # an operator, a timeout, a shutdown, a start
    "58",  # the system around it
    "F0",  # its configuration
)
# After these the session is as it was. After the others a new one may be better: elsewhere, or with other rights.
ABOUT_THE_STATEMENT = ("40", "55P03", "57014")
# After these a statement may still run in the connection.
INTERRUPTED = (
    asyncio.CancelledError,
    GeneratorExit,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


def is_unavailable(error: BaseException) -> bool:
    """Whether the failure is the database's, and not that of a statement or its arguments."""
    if isinstance(
        error, asyncpg.InvalidCachedStatementError
    ):  # prepared before a column changed: a migration
        return True
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(UNAVAILABLE)
    if isinstance(error, ValueError):  # asyncpg's for an argument that does not fit
        return False
    # InterfaceError: the connection closed under a query. TimeoutError is an OSError.
    return isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError))


def leaves_reusable(error: BaseException) -> bool:
    """Whether the connection that the failure came from can be used again."""
    if isinstance(error, asyncpg.PostgresError):
        return not is_unavailable(error) or error.sqlstate.startswith(ABOUT_THE_STATEMENT)
    return not isinstance(error, INTERRUPTED)


def is_read_only_error(error: BaseException) -> bool:
    """Whether the failure means that nothing can be written there."""
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError)


def reason_of(error: BaseException) -> str:
    """What the failure says, without the values that a DETAIL may quote."""
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time"
    said = error.args[0] if isinstance(error, asyncpg.PostgresError) else error
    return str(said) or type(error).__name__


class _TranslateErrors:
    """FairQueue what says "no database now" into `DatabaseUnavailable`; our own mistakes in SQL stay what they are.

    A class, and one object of it for all: on the path of every query a generator would cost more than the rest.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and is_unavailable(error):
            raise DatabaseUnavailable(reason_of(error)) from error


TRANSLATE_ERRORS = _TranslateErrors()
