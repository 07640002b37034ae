"""What one machine allows a run: generator processes, and a file descriptor per connection."""

import resource

from devnest.load.errors import BadPlan

__all__ = ["MAX_GENERATORS", "need_descriptors"]

MAX_GENERATORS = 64  # processes of a run; each can use a core

# Descriptors kept for the interpreter's files, the pipes and the event loop.
_RESERVED_DESCRIPTORS = 64


def need_descriptors(vus: int, generators: int, *, may_spread: bool = True) -> None:
    """Make sure that a generator process may open a connection for each of its VUs.

    Where the soft limit on file descriptors is too low, it becomes the hard limit.

    Args:
        vus: The largest number of VUs of the run.
        generators: The processes that share them.
        may_spread: Whether the caller may use more generators. The error then says how many.

    Raises:
        BadPlan: The hard limit is too low as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = -(-vus // generators) + _RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = hard
        if hard == resource.RLIM_INFINITY:
            wanted = needed  # macOS refuses an infinite soft limit
        if wanted < needed:
            max_vus = hard - _RESERVED_DESCRIPTORS  # of a generator
            can_spread = may_spread and max_vus > 0 and -(-vus // max_vus) <= MAX_GENERATORS
            raise BadPlan(
                f"{vus:,} VUs in {generators} generator(s) need {needed:,} file descriptors each, "
                f"the limit is {hard:,}: raise it (ulimit -Hn {needed}, or "
                f"LimitNOFILE={needed} under systemd)"
                + (f", or spread them: --generators {-(-vus // max_vus)}" if can_spread else "")
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
