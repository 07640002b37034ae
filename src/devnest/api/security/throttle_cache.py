"""The waits of those who hammer, as this server heard of them last.

What a refusal costs is what a flood takes from everybody else. So who has been refused twice in one wait is refused
without a look into the database, for a second at most: that long a wait that ended early, since an attempt under way
turned out to be right, may go unnoticed by the other servers.

The server where it turned out to be right asks the database about the next try. But for the rest of that second it
remembers who hammered, and their next wait from its first refusal on, of which it tells and writes nothing. Otherwise a
flood of right passwords would cost one look and two writes more for each one that is answered.
"""

import math
import time

from devnest.store import Subject, Throttled

__all__ = ["MEMORY_S", "ThrottleCache"]

MEMORY_S = 1.0
MAX_KNOWN = 10_000  # waits in memory, of addresses and accounts
NOBODY = (0.0, 0.0)


class ThrottleCache:
    """Belongs to one server; nothing here outlives `MEMORY_S`."""

    def __init__(self) -> None:
        # Until when it is believed, and when the wait ends; 0 where it has ended early.
        self._known: dict[bytes, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        """Whether it may know of anybody."""
        return bool(self._known)

    def refuse(self, *subjects: Subject | None) -> None:
        """Raise `Throttled` for one that has to wait."""
        if not self:
            return
        now = time.monotonic()
        known = [
            self._known.get(subject.key, NOBODY) for subject in subjects if subject is not None
        ]
        if waits := [
            ends_at - now for believed_until, ends_at in known if now < min(believed_until, ends_at)
        ]:
            raise Throttled(max(1, math.ceil(max(waits))), first=False)

    def hammers(self, subject: Subject) -> bool:
        """Whether it has been refused twice in one wait within the last second, also where that wait ended early."""
        return time.monotonic() < self._known.get(subject.key, NOBODY)[0]

    def remember(
        self, throttled: Throttled, own: Subject | None = None, called: Subject | None = None
    ) -> None:
        """What the database said, unless it was for the first time in this wait.

        `called` is what `own` was called in the request: it waits as long, and is known before the database is asked.
        """
        if throttled.first:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()  # who still hammers comes back at once
        now = time.monotonic()
        for key, wait_s in throttled.waits.items():
            self._known[key] = now + min(MEMORY_S, wait_s), now + wait_s
        if called is not None and own is not None and own.key in throttled.waits:
            self._known[called.key] = self._known[own.key]

    def forget(self, *subjects: Subject | None) -> None:
        """An attempt was right: their waits may have ended."""
        for subject in subjects:
            if subject is not None and (known := self._known.get(subject.key)):
                self._known[subject.key] = known[0], 0.0
