"""The queries: SQL beside the functions that run it."""
