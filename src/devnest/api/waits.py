"""The waits of those who hammer, as this server heard of them last.

What a refusal costs is what a flood takes from everybody else. So who has been refused twice in one wait is refused
without a look into the database, for a second at most: that long a wait that ended early, since an attempt under way
turned out to be right, may go unnoticed by the other servers.
"""

import math
import time
from collections.abc import Iterable

from devnest.store import Subject, Throttled

__all__ = ["MEMORY_S", "Waits"]

MEMORY_S = 1.0
MOST = 10_000


class Waits:
    """Belongs to one server; nothing here outlives `MEMORY_S`."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, float]] = {}  # until when it is believed, and when the wait ends

    def refuse(self, *subjects: Subject) -> None:
        """Raise `Throttled` for one that has to wait."""
        if not self._known:
            return
        now = time.monotonic()
        known = [self._known.get(subject.key, (0.0, 0.0)) for subject in subjects]
        if waits := [ends_at - now for believed_until, ends_at in known if now < believed_until]:
            raise Throttled(max(1, math.ceil(max(waits))), first=False)

    def remember(self, throttled: Throttled) -> None:
        """What the database said, unless it was for the first time in this wait."""
        if throttled.first:
            return
        if len(self._known) >= MOST:
            self._known.clear()  # who still hammers comes back at once
        now = time.monotonic()
        for key, wait_s in throttled.waits.items():
            self._known[key] = now + min(MEMORY_S, wait_s), now + wait_s

    def forget(self, subjects: Iterable[Subject]) -> None:
        """An attempt was right, which ends their waits."""
        for subject in subjects:
            self._known.pop(subject.key, None)
