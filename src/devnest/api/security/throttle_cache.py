"""`ThrottleCache`: the counters that this server has refused repeatedly within the last second.

During a flood, the time spent on refusals is lost to all other clients. So a counter that has been
refused twice within one wait is refused from memory, without a query, for `MAX_AGE_S` at most.

A wait ends early if an attempt that was already running turns out to be right. Other servers may
not notice that until their entry is too old. The server that ran the attempt asks the database
about the next one. It remembers until its entry is too old that the counter had been refused
repeatedly. If the database refuses that counter again, even the first refusal of the new wait
counts as a repeated one: it is kept in memory, and not written to the audit log. Otherwise a flood
with the right password would cost one query and two writes more for each attempt that succeeds.
"""

import math
import time

from devnest.store import Subject, Throttled

__all__ = ["MAX_AGE_S", "ThrottleCache"]

# Of an entry. For this long, another server may still refuse after a wait has ended early.
MAX_AGE_S = 1.0
MAX_ENTRIES = 10_000  # addresses and accounts; an attacker has many, so memory needs a bound
NO_ENTRY = (0.0, 0.0)


class ThrottleCache:
    """Remembers refusals of one server. Times are those of `time.monotonic`."""

    def __init__(self) -> None:
        # By counter: until when the entry counts, and when the wait ends; 0 if it has ended early.
        self._entries: dict[bytes, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        """Whether there is any entry."""
        return bool(self._entries)

    def refuse(self, *subjects: Subject | None) -> None:
        """Refuse a request if one of its counters has an entry whose wait has not ended.

        Args:
            subjects: The counters that the request depends on.

        Raises:
            Throttled: One of them has to wait. The longest wait counts.
        """
        if not self:
            return
        now = time.monotonic()
        entries = [
            self._entries.get(subject.key, NO_ENTRY) for subject in subjects if subject is not None
        ]
        if waits := [
            ends_at - now for valid_until, ends_at in entries if now < min(valid_until, ends_at)
        ]:
            raise Throttled(max(1, math.ceil(max(waits))), first=False)

    def was_refused_repeatedly(self, subject: Subject) -> bool:
        """Whether a counter has an entry, even if its wait has ended early.

        Args:
            subject: The counter.
        """
        return time.monotonic() < self._entries.get(subject.key, NO_ENTRY)[0]

    def remember(
        self, throttled: Throttled, subject: Subject | None = None, alias: Subject | None = None
    ) -> None:
        """Remember a refusal by the database, unless it is the first one of its wait.

        Args:
            throttled: The refusal, with the counters that have to wait.
            subject: The counter that the request is charged to.
            alias: The name by which the request calls that account. It gets the same entry, so
                that the next request is refused before the account is looked up.
        """
        if throttled.first:
            return
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()  # clients that go on trying are added again soon
        now = time.monotonic()
        for key, wait_s in throttled.waits.items():
            self._entries[key] = now + min(MAX_AGE_S, wait_s), now + wait_s
        if alias is not None and subject is not None and subject.key in throttled.waits:
            self._entries[alias.key] = self._entries[subject.key]

    def forget(self, *subjects: Subject | None) -> None:
        """End the waits of these counters, because an attempt was right.

        Args:
            subjects: The counters that the attempt was charged to.
        """
        for subject in subjects:
            if subject is not None and (entry := self._entries.get(subject.key)):
                self._entries[subject.key] = entry[0], 0.0
