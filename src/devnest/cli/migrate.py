"""`devnest migrate`: brings the database to the newest schema."""

import asyncio

import typer

from devnest.cli.errors import reported
from devnest.cli.options import DatabaseUrl, DataDir, PostgresBin
from devnest.logs import configure_logging
from devnest.store import DataDirectory, EmbeddedPostgres, default_data_dir, ensure_database
from devnest.store import migrate as bring_up_to_date

__all__ = ["migrate"]


def migrate(
    database_url: DatabaseUrl = None, data_dir: DataDir = None, postgres_bin: PostgresBin = None
) -> None:
    """Bring the database to the newest schema.

    Without --database-url this is the embedded database, which `devnest serve` must not be using;
    it is made if it does not exist.
    """
    configure_logging("warning")
    with reported():
        if database_url is not None:
            changed = asyncio.run(bring_up_to_date(database_url))
        else:
            directory = DataDirectory(data_dir or default_data_dir())
            directory.open()
            postgres = EmbeddedPostgres(directory, postgres_bin)
            try:
                postgres.start()
                asyncio.run(ensure_database(postgres.url))
                changed = asyncio.run(bring_up_to_date(postgres.url))
            finally:
                postgres.stop()
                directory.close()
    typer.echo("the schema was brought up to date" if changed else "the schema is up to date")
