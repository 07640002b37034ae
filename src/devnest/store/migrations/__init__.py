"""The schema's history, as Alembic revisions; `HEAD` is the newest, and what this program works on."""

__all__ = ["HEAD", "VERSION_TABLE"]

HEAD = "0014"
VERSION_TABLE = "devnest_schema"  # Alembic's, and the mark of our databases (devnest.store.schema)
