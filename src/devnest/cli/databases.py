"""The database of a DevNest for a command that runs beside it: the one given, or the embedded one."""

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
    """Its URL. A running DevNest's PostgreSQL is shared; where none runs, it runs for as long as the command.

    Raises `DataDirectoryError` where there is no database yet: a mistyped directory is not made.
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
