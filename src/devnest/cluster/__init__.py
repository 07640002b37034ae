"""The processes of `devnest serve`: starts, watches, restarts and stops them.

`serve` itself is in `devnest.cluster.serve` and not imported here. Every child imports this
package, and would otherwise load the supervisor as well.
"""

from devnest.cluster.child import ChildFailed
from devnest.cluster.sockets import PortUnavailable

__all__ = ["ChildFailed", "PortUnavailable"]
