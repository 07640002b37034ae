"""Looks for other programs that take CPU time from a run: before it, and while it lasts.

Before the run, whatever uses the machine is somebody else. During it, a target on the same machine
cannot be told from the others, so only time that the host gave to other machines counts there;
beside a target elsewhere, everything counts that the generators did not use.
"""

import asyncio
import ipaddress
import os
import socket

from devnest.busy import CpuTimes

__all__ = ["Neighbours"]

_LOOK_S = 0.3
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Neighbours:
    """What others used of the machine's cores, as shares of all of them.

    Args:
        address: The target's address.

    Attributes:
        before: In use right before the run; None if unknown.
        during: Used by other programs while the run lasted; None if unknown.
        stolen: Given by the host to other virtual machines while the run lasted.
    """

    def __init__(self, address: str) -> None:
        self._is_local = _is_local(address)
        self._begin: CpuTimes | None = None
        self.before: float | None = None
        self.during: float | None = None
        self.stolen = 0.0

    async def look(self) -> None:
        """Measure how busy the machine is before the run."""
        begin = CpuTimes.now()
        if begin is not None:
            await asyncio.sleep(_LOOK_S)
            end = CpuTimes.now()
            self.before = None if end is None else end.share_since(begin)

    def begin(self) -> None:
        """Note that the run begins."""
        self._begin = CpuTimes.now()

    def end(self, own_cpu_s: float) -> None:
        """Note that the run has ended.

        Args:
            own_cpu_s: The CPU time of the generators since `begin`.
        """
        end = CpuTimes.now()
        if self._begin is None or end is None or end.whole == self._begin.whole:
            return
        self.stolen = end.stolen_since(self._begin)
        if not self._is_local:
            own = own_cpu_s * _TICKS_PER_S / (end.whole - self._begin.whole)
            self.during = max(0.0, end.share_since(self._begin) - own)


def _is_local(address: str) -> bool:
    """Return whether the target is on this machine: only its own addresses can be bound."""
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
