"""Timers without a clock: a heap of times at which something has to be checked."""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Timers"]

T = TypeVar("T")

MIN_SWEEP_ENTRIES = 64  # a smaller heap is never swept: its stale entries cost next to nothing


class Timers(Generic[T]):
    """A heap of times and subjects. An entry that no longer matters is stale and is skipped.

    `is_live` says whether an entry still matters. When the heap has doubled since the last sweep,
    all stale entries are removed. So its size stays within twice the number of live entries, or
    `MIN_SWEEP_ENTRIES`, however many tasks come and go.
    """

    def __init__(self, is_live: Callable[[float, T], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()  # breaks ties, so that subjects are never compared
        self._sweep_at = MIN_SWEEP_ENTRIES

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, subject: T) -> None:
        """Add a timer for `subject` at `when`."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if self._is_live(entry[0], entry[2])]
            heapq.heapify(self._heap)
            self._sweep_at = max(MIN_SWEEP_ENTRIES, 2 * len(self._heap))
        heapq.heappush(self._heap, (when, next(self._numbers), subject))

    def next_at(self) -> float:
        """Return the earliest time, stale or not; infinity if there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now: float) -> T | None:
        """Remove and return the next due subject, or `None`."""
        while self._heap and self._heap[0][0] <= now:
            when, _, subject = heapq.heappop(self._heap)
            if self._is_live(when, subject):
                return subject
        return None
