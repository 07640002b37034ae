"""Processes: what `devnest serve` starts, watches, restarts and stops.

`serve` itself is in `devnest.cluster.serve`: children import this package too, and would load the supervisor with it.
"""

from devnest.cluster.child import ChildFailed
from devnest.cluster.sockets import PortUnavailable

__all__ = ["ChildFailed", "PortUnavailable"]
