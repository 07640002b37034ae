"""The backlog: admission of new tasks, and the choice of the tasks that a worker gets next."""

import math
from collections import OrderedDict

from devnest.pool.core.estimates import Estimates
from devnest.pool.core.limits import Limits
from devnest.pool.core.queue import Queue
from devnest.pool.core.stats import Recorder
from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.errors import PoolFull

__all__ = ["MAX_COALESCED_CALLS", "Backlog"]

# Short calls of one function without a timeout may go to a worker in one frame. Each bound keeps
# the calls of a frame from waiting long for each other.
MAX_COALESCED_CALLS = 16  # in one frame
MAX_QUICK_CALL_S = 500e-6  # mean run time up to which a call counts as short
MAX_COALESCED_S = 2e-3  # expected run time of all calls in one frame


class Backlog:
    """Queued tasks, tasks to be retried, and the estimated cost of each function."""

    def __init__(self, recorder: Recorder) -> None:
        self.queue = Queue()
        # Tasks that are sent again. Each goes before every queued task, in a batch of its own.
        self.retries: OrderedDict[Task, None] = OrderedDict()
        self.estimates = Estimates()
        self._recorder = recorder

    def __len__(self) -> int:
        return len(self.queue) + len(self.retries)

    def count_by_priority(self) -> dict[int, int]:
        """Return how many tasks wait in each priority."""
        counts = self.queue.count_by_priority()
        for task in self.retries:
            counts[task.priority] = counts.get(task.priority, 0) + 1
        return counts

    def admit(
        self, task: Task, limits: Limits, *, idle: int, workers: int, now: float
    ) -> Task | None:
        """Add a task to the queue.

        Args:
            task: The new task.
            limits: The limits of the pool.
            idle: The number of idle workers.
            workers: The number of idle and busy workers.
            now: The present time.

        Returns:
            The waiting task that lost its place to the new one, or `None`.

        Raises:
            PoolFull: The queue is full, or the task is expected to miss its deadline.
        """
        task.enqueued_at = now
        task.cost_s = self.estimates.task_s(task.function)
        displaced = None
        if idle <= len(self):  # no idle worker is left for this task
            self._check_deadline(task, max(1, workers), now)
            if len(self) - idle >= limits.max_queue:
                displaced = self._displace(task, max(1, workers))
        self.queue.push(task)
        return displaced

    def take_out(self, task: Task) -> None:
        """Remove a waiting task."""
        if task in self.retries:
            del self.retries[task]
        else:
            self.queue.remove(task)

    def put_back(self, task: Task) -> None:
        """Let an admitted task wait for another attempt, whatever `max_queue` says."""
        task.state = TaskState.WAITING
        task.run_until = math.inf
        self.retries[task] = None
        self._recorder.retried += 1

    def next_batch(self, limits: Limits, *, idle: int, now: float) -> list[Task]:
        """Remove and return one worker's even share of the backlog, with `idle` workers idle."""
        # A retried task goes alone: if it killed its first worker, it takes no other task with it.
        if self.retries:
            task, _ = self.retries.popitem(last=False)
            return [task]
        task = self.queue.pop(now)
        size = task.function.max_size or self._coalesced_size(task, limits)
        share = min(size, -(-(1 + self.queue.count_of(task.function)) // idle)) if size > 1 else 1
        if share < 2:
            return [task]
        return [
            task,
            *self.queue.pop_more(
                task.function, share - 1, now, with_timeout=task.function.max_size > 0
            ),
        ]

    def refuse_full(self, workers: int) -> PoolFull:
        """Return the error for a full queue, with the expected time until the queue is empty."""
        self._recorder.refused["full"] += 1
        return PoolFull(self.estimates.retry_after_s(self.queue.cost_s() / workers))

    def _coalesced_size(self, task: Task, limits: Limits) -> int:
        """Return how many calls of an unbatched function may share a frame: 1 if they are long.

        A task with a timeout is sent alone, since the timeout must not include the run time of
        other calls. A deadline includes the wait for them in any case.
        """
        if not limits.can_coalesce or task.timeout_s < math.inf:
            return 1
        task_s = self.estimates.task_s(task.function)
        return (
            min(MAX_COALESCED_CALLS, int(MAX_COALESCED_S / task_s))
            if 0 < task_s < MAX_QUICK_CALL_S
            else 1
        )

    def _check_deadline(self, task: Task, workers: int, now: float) -> None:
        if task.deadline_at < math.inf:
            late_s = self.estimates.late_s(task, self.queue, workers, now)
            if late_s > 0:
                self._recorder.refused["estimate"] += 1
                raise PoolFull(
                    self.estimates.retry_after_s(late_s),
                    "the task would miss its deadline",
                )

    def _displace(self, task: Task, workers: int) -> Task:
        """Remove and return the newest task of the key with the most waiting tasks.

        Taking turns helps only keys that have a task in the queue. Without displacement, one key
        could fill the queue and keep all other keys out.
        """
        if self.queue.longest_length() < self.queue.length_of(task.source, task.key) + 2:
            raise self.refuse_full(workers)
        last = self.queue.newest_of_longest()
        self.queue.remove(last)
        last.end()
        return last
