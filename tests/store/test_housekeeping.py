"""The purge that runs by itself."""

import asyncio

import pytest
from structlog.testing import capture_logs

from devnest.store import Database, Housekeeper
from tests.support import PATIENCE_S


async def test_it_goes_on_after_an_error_of_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is away for a moment costs one purge, and a line in the log."""
    monkeypatch.setattr("devnest.store.housekeeping.PERIOD_S", 0.02)
    await database.fetch("ALTER TABLE held_names RENAME TO away")
    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_S), Housekeeper(database):
            try:
                while not lines:
                    await asyncio.sleep(0.005)
            finally:
                await database.fetch("ALTER TABLE away RENAME TO held_names")
            # What it says of a purge depends on the level that another test has set; what it does
            # is in the table.
            await database.fetch("INSERT INTO throttles VALUES ('stale', now(), '-infinity', true)")
            while await database.fetch_value("SELECT count(*) FROM throttles WHERE key = 'stale'"):
                await asyncio.sleep(0.005)
    assert lines[0]["event"] == "not purged"
    assert "held_names" in lines[0]["reason"]
