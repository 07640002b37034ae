"""Processes: what `devnest serve` starts, watches, restarts and stops."""

from devnest.cluster.child import ChildFailed
from devnest.cluster.serve import serve
from devnest.cluster.sockets import PortUnavailable

__all__ = ["ChildFailed", "PortUnavailable", "serve"]
