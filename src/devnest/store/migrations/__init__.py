"""The schema's history, as Alembic revisions; `HEAD` is the newest."""

__all__ = ["HEAD"]

HEAD = "0009"
