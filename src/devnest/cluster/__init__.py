"""Processes: what `devnest serve` starts, watches and stops."""

from devnest.cluster.serve import serve
from devnest.cluster.sockets import PortUnavailable

__all__ = ["PortUnavailable", "serve"]
