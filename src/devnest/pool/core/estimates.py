"""What a function is expected to cost, and so how long a task would wait."""

from devnest.pool.core.queue import Queue
from devnest.pool.core.tasks import Task
from devnest.pool.functions import Function

__all__ = ["Estimates"]

WEIGHT = 0.2  # of the newest measurement
MAX_FUNCTIONS = 1000  # names come from clients; past this many all is learnt anew
RETRY_MIN_S, RETRY_MAX_S, RETRY_UNKNOWN_S = 0.1, 60.0, 1.0


class Estimates:
    """Moving averages of what each function took. An unknown function is expected to cost nothing."""

    def __init__(self) -> None:
        self._seen: dict[
            Function, tuple[float, float]
        ] = {}  # seconds of a worker for a task, for a batch

    def learn(self, function: Function, batch_s: float, size: int) -> None:
        """Note how long a batch of ``size`` tasks took."""
        task_s = batch_s / size
        old = self._seen.get(function)
        if old is not None:
            task_s = old[0] + WEIGHT * (task_s - old[0])
            batch_s = old[1] + WEIGHT * (batch_s - old[1])
        elif len(self._seen) >= MAX_FUNCTIONS:
            self._seen.clear()
        self._seen[function] = task_s, batch_s

    def task_s(self, function: Function) -> float:
        """Return the seconds of a worker that one task of the function takes."""
        return self._seen.get(function, (0.0, 0.0))[0]

    def batch_s(self, function: Function) -> float:
        """Return the seconds of a worker that a batch of the function takes."""
        return self._seen.get(function, (0.0, 0.0))[1]

    def late_s(self, task: Task, queue: Queue, workers: int, now: float) -> float:
        """Return by how many seconds a task that joined now would miss its deadline; up to 0: it is kept."""
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
        """Return when a task that joins now has to begin, to be done by its deadline.

        At most half of its time is kept for the run, so that one slow batch cannot forbid all that come after it.
        """
        return task.deadline_at - min(self.batch_s(task.function), (task.deadline_at - now) / 2)

    @staticmethod
    def retry_after_s(wait_s: float) -> float:
        """Return the wait to tell a refused caller: the expected one, within limits."""
        return min(RETRY_MAX_S, max(RETRY_MIN_S, wait_s)) if wait_s else RETRY_UNKNOWN_S
