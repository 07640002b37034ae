"""Which errors mean that the database is unavailable, and which leave a connection reusable.

The errors are listed by whole classes of SQLSTATE, because PostgreSQL, its host and poolers between
can report many. https://www.postgresql.org/docs/current/errcodes-appendix.html
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

# Most errors of class 22, 23 and 42 are mistakes in a statement or its values. These are conditions
# of the database instead:
UNAVAILABLE = (
    "08",  # the connection
    "25006",  # read-only: a standby, or a server that is being replaced
    "25P03",  # this session was idle for too long
    "25P04",  # this transaction took too long
    "26000",  # a prepared statement is gone: a pooler has changed the session between statements
    "28",  # the role, or its password
    "3D",  # the database does not exist
    "3F",  # the schema does not exist
    "40",  # the transaction was rolled back: a deadlock, or a conflict with recovery
    "42501",  # the role lacks a privilege
    "42P01",  # a table does not exist: a backup is being restored
    "42P05",  # a prepared statement is another client's: the same
    "53",  # disk, memory, connections
    "55P03",  # a lock was not available
    "57",  # an operator, a timeout, a shutdown or a start
    "58",  # the operating system
    "F0",  # the configuration files
)
# These leave the session as it was. After the others, a new connection may have another server or
# other rights.
ABOUT_THE_STATEMENT = ("40", "55P03", "57014")
# After these, a statement may still be running in the connection.
INTERRUPTED = (
    asyncio.CancelledError,
    GeneratorExit,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


def is_unavailable(error: BaseException) -> bool:
    """Return whether an error is about the database, and not about a statement or its values."""
    # A migration changed a column after the statement was prepared.
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(UNAVAILABLE)
    if isinstance(error, ValueError):  # asyncpg raises it for an argument of the wrong type
        return False
    # asyncpg raises InterfaceError if the connection closes during a query. TimeoutError is an
    # OSError.
    return isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError))


def leaves_reusable(error: BaseException) -> bool:
    """Return whether a connection can be reused after this error."""
    if isinstance(error, asyncpg.PostgresError):
        return not is_unavailable(error) or error.sqlstate.startswith(ABOUT_THE_STATEMENT)
    return not isinstance(error, INTERRUPTED)


def is_read_only_error(error: BaseException) -> bool:
    """Return whether the error means that the server cannot be written to."""
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError)


def reason_of(error: BaseException) -> str:
    """Return the error's message without DETAIL, which may quote values."""
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time"
    said = error.args[0] if isinstance(error, asyncpg.PostgresError) else error
    return str(said) or type(error).__name__


class _TranslateErrors:
    """Raises `DatabaseUnavailable` for errors that mean it; other errors pass unchanged.

    There is one shared object. Every query uses it, and a generator for each would cost more than
    everything else on that path.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and is_unavailable(error):
            raise DatabaseUnavailable(reason_of(error)) from error


TRANSLATE_ERRORS = _TranslateErrors()
