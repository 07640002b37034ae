"""What one machine lets a run have: generators, and file descriptors, one for each connection."""

import resource

from devnest.load.errors import BadPlan

__all__ = ["MAX_GENERATORS", "need_descriptors"]

MAX_GENERATORS = 64

_RESERVE = 64  # the interpreter's own files, the pipes and the event loop


def need_descriptors(vus: int, generators: int, *, may_spread: bool = True) -> None:
    """Raise the soft limit to the hard one; `BadPlan` where that is too few for one generator's VUs.

    It says how to have more, and how many generators would do, where the caller may have more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = -(-vus // generators) + _RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = hard
        if hard == resource.RLIM_INFINITY:
            wanted = needed  # macOS refuses an infinite soft limit
        if wanted < needed:
            most = hard - _RESERVE  # VUs of a generator
            enough = may_spread and most > 0 and -(-vus // most) <= MAX_GENERATORS
            raise BadPlan(
                f"{vus:,} VUs in {generators} generator(s) need {needed:,} file descriptors each, "
                f"the limit is {hard:,}: raise it (ulimit -Hn {needed}, or LimitNOFILE={needed} under systemd)"
                + (f", or spread them: --generators {-(-vus // most)}" if enough else "")
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
