"""The history of the schema, as Alembic revisions."""

__all__ = ["HEAD", "VERSION_TABLE"]

HEAD = "0014"  # the newest revision, with which this program works
VERSION_TABLE = "devnest_schema"  # also marks the database as DevNest's (devnest.store.schema)
