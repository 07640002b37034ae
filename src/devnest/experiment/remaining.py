"""Estimates how long the runs of a session still take."""

import time

from devnest.experiment.session import Conditions

__all__ = ["RemainingTime", "whole_s"]

# Of a run beside its load, in seconds: sample, start, warm-up, last responses and stop.
OVERHEAD_S = 14.0


def whole_s(conditions: Conditions) -> float:
    """Return an estimate of the seconds that a session takes."""
    runs = conditions.runs * len(conditions.designs)
    return runs * (conditions.load_s + OVERHEAD_S)


class RemainingTime:
    """Counts down the runs of a session.

    A run is first taken to last as long as its load and `OVERHEAD_S`, then as long as the runs
    before it did on average.

    Args:
        conditions: What the session measures.
        runs: The number of runs to do.

    Attributes:
        runs: The number of runs still to do, including one that is in progress.
    """

    def __init__(self, conditions: Conditions, runs: int) -> None:
        self.runs = runs
        self._planned_s = conditions.load_s + OVERHEAD_S
        self._lasted_s: list[float] = []
        self._began_at = time.monotonic()

    @property
    def left_s(self) -> float:
        """An estimate of the seconds until the last run has ended."""
        lasted_s = self._lasted_s or [self._planned_s]
        spent_s = time.monotonic() - self._began_at
        return max(0.0, self.runs * sum(lasted_s) / len(lasted_s) - spent_s)

    def run_ended(self) -> None:
        """Note that a run has ended, or was left out."""
        now = time.monotonic()
        self._lasted_s.append(now - self._began_at)
        self._began_at = now
        self.runs -= 1
