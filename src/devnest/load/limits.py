"""File descriptors: one for each connection, and the system's limit on them."""

import resource

from devnest.load.errors import BadPlan

__all__ = ["need_descriptors"]

_RESERVE = 64  # the interpreter's own files, the pipes and the event loop


def need_descriptors(vus: int, generators: int) -> None:
    """Raise the soft limit to the hard one; `BadPlan` where that is too few for one generator's VUs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = -(-vus // generators) + _RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = hard
        if hard == resource.RLIM_INFINITY:
            wanted = needed  # macOS refuses an infinite soft limit
        if wanted < needed:
            raise BadPlan(
                f"{vus:,} VUs in {generators} generator(s) need {needed:,} file descriptors each, "
                f"the limit is {hard:,}: "
                f"raise it (ulimit -Hn {needed}, or LimitNOFILE={needed} under systemd), "
                f"or spread them: --generators {-(-vus // max(1, hard - _RESERVE))}"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
