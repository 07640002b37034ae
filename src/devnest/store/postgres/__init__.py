"""The embedded PostgreSQL server: its binaries, its data directory and its life."""
