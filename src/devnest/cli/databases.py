"""Finds the database of a command that may run beside `devnest serve`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devnest.store import (
    DataDirectory,
    DataDirectoryError,
    DataDirectoryInUse,
    EmbeddedPostgres,
    default_data_dir,
    running_url,
)

__all__ = ["database_of"]


@contextmanager
def database_of(
    database_url: str | None, data_dir: Path | None, postgres_bin: Path | None
) -> Iterator[str]:
    """Yield the database's URL.

    If `devnest serve` runs on the data directory, its PostgreSQL is shared. Otherwise PostgreSQL is
    started, and stopped when the context ends.

    Args:
        database_url: The database to use; None for the embedded one.
        data_dir: The data directory of the embedded database; None for the default one.
        postgres_bin: The directory of PostgreSQL's programs; None to search for them.

    Raises:
        DataDirectoryError: The data directory has no database, or cannot be used.
    """
    if database_url is not None:
        yield database_url
        return
    directory = DataDirectory(data_dir or default_data_dir())
    if not (directory.path / "postgres").exists():
        raise DataDirectoryError(
            directory.path, "it has no database; `devnest serve` makes one, or `devnest migrate`"
        )
    try:
        directory.open()
    except DataDirectoryInUse:
        yield running_url(directory)
        return
    postgres = EmbeddedPostgres(directory, postgres_bin)
    try:
        postgres.start()
        yield postgres.url
    finally:
        postgres.stop()
        directory.close()
