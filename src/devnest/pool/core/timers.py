"""Moments at which there is something to do, soonest first."""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Timers"]

T = TypeVar("T")

_SLACK = 64  # below this many entries stale ones are not worth looking for


class Timers(Generic[T]):
    """A heap of moments. An entry whose subject no longer needs it is stale: skipped when its time comes.

    ``is_live`` tells a stale entry; whenever the heap has doubled since the last sweep the stale ones are
    thrown out, so it stays within twice the number of live entries however many tasks come and go.
    """

    def __init__(self, is_live: Callable[[float, T], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()  # ties go by age, and subjects are never compared
        self._sweep_at = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, subject: T) -> None:
        """Ask for ``subject`` at ``when``."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if self._is_live(entry[0], entry[2])]
            heapq.heapify(self._heap)
            self._sweep_at = max(_SLACK, 2 * len(self._heap))
        heapq.heappush(self._heap, (when, next(self._numbers), subject))

    def next_at(self) -> float:
        """Return the soonest moment, stale or not; infinity where there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now: float) -> T | None:
        """Take out the next subject whose moment has come; None where there is none."""
        while self._heap and self._heap[0][0] <= now:
            when, _, subject = heapq.heappop(self._heap)
            if self._is_live(when, subject):
                return subject
        return None
