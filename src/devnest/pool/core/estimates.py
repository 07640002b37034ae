"""Estimates of what each function costs and how long a task would wait."""

from devnest.pool.core.queue import Queue
from devnest.pool.core.tasks import Task
from devnest.pool.functions import Function

__all__ = ["Estimates"]

NEWEST_WEIGHT = 0.2  # of the newest run; the last ten runs make up about 90 % of the mean
MAX_FUNCTIONS = 1000  # bounds memory, as clients choose the names; at the limit all are forgotten
# Bounds of what a refused caller is told to wait, whatever the estimate.
MIN_RETRY_AFTER_S = 0.1
MAX_RETRY_AFTER_S = 60.0
DEFAULT_RETRY_AFTER_S = 1.0  # when no waiting function has been measured yet


class Estimates:
    """Moving averages of the run times of each function; an unknown function counts as free."""

    def __init__(self) -> None:
        # Seconds of a worker's time for one task, and for one batch.
        self._seen: dict[Function, tuple[float, float]] = {}

    def learn(self, function: Function, batch_s: float, size: int) -> None:
        """Record how long a batch of `size` tasks took."""
        task_s = batch_s / size
        old = self._seen.get(function)
        if old is not None:
            task_s = old[0] + NEWEST_WEIGHT * (task_s - old[0])
            batch_s = old[1] + NEWEST_WEIGHT * (batch_s - old[1])
        elif len(self._seen) >= MAX_FUNCTIONS:
            self._seen.clear()
        self._seen[function] = task_s, batch_s

    def task_s(self, function: Function) -> float:
        """Return the seconds of a worker's time that one task of the function takes."""
        return self._seen.get(function, (0.0, 0.0))[0]

    def batch_s(self, function: Function) -> float:
        """Return the seconds of a worker's time that one batch of the function takes."""
        return self._seen.get(function, (0.0, 0.0))[1]

    def late_s(self, task: Task, queue: Queue, workers: int, now: float) -> float:
        """Return the seconds by which a new task would miss its deadline; 0 or less: on time."""
        seen = self._seen.get(task.function)
        if seen is None:
            return 0.0
        return (
            now
            + queue.cost_ahead(task.priority, task.source, task.key) / workers
            + seen[1]
            - task.deadline_at
        )

    def start_by(self, task: Task, now: float) -> float:
        """Return the latest time at which a new task can start and still meet its deadline.

        At most half of the time until the deadline is reserved for the run. Otherwise one slow
        batch would raise the estimate so far that no later task could ever start.
        """
        return task.deadline_at - min(self.batch_s(task.function), (task.deadline_at - now) / 2)

    @staticmethod
    def retry_after_s(wait_s: float) -> float:
        """Return the wait to report to a refused caller: the expected one, within the bounds."""
        return (
            min(MAX_RETRY_AFTER_S, max(MIN_RETRY_AFTER_S, wait_s))
            if wait_s
            else DEFAULT_RETRY_AFTER_S
        )
