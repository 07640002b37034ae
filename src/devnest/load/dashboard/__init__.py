"""The live page of a run: served while it goes on, and the report at its end."""

from devnest.load.dashboard.live import Dashboard, Live

__all__ = ["Dashboard", "Live"]
