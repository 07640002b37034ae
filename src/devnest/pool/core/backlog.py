"""The tasks that no worker has: which of them are taken in, and which go next, alone or together."""

import math
from collections import OrderedDict

from devnest.pool.core.estimates import Estimates
from devnest.pool.core.limits import Limits
from devnest.pool.core.queue import Queue
from devnest.pool.core.stats import Recorder
from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.errors import PoolFull

__all__ = ["MAX_RIDERS", "Backlog"]

MAX_RIDERS = 16  # quick calls of one function in a frame
QUICK_S, RIDE_S = 500e-6, 2e-3  # what a quick call may take, and all that ride together


class Backlog:
    """The queue, those that wait for another run, and what is known of each function's cost."""

    def __init__(self, recorder: Recorder) -> None:
        self.queue = Queue()
        self.retries: OrderedDict[Task, None] = (
            OrderedDict()
        )  # sent again, alone, before anything else
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
        """Take a task in, or raise :class:`PoolFull`; return the task that lost its place to it, if one did."""
        task.enqueued_at = now
        task.cost_s = self.estimates.task_s(task.function)
        displaced = None
        if idle <= len(self):  # it will have to wait
            self._check_deadline(task, max(1, workers), now)
            if len(self) - idle >= limits.max_queue:
                displaced = self._make_backlog(task, max(1, workers))
        self.queue.push(task)
        return displaced

    def take_out(self, task: Task) -> None:
        """Remove a waiting task."""
        if task in self.retries:
            del self.retries[task]
        else:
            self.queue.remove(task)

    def put_back(self, task: Task) -> None:
        """Have a task wait for another run. It was admitted before, so it takes nobody's place."""
        task.state = TaskState.WAITING
        task.run_until = math.inf
        self.retries[task] = None
        self._recorder.retried += 1

    def next_batch(self, limits: Limits, *, idle: int, now: float) -> list[Task]:
        """Take out what one of so many idle workers is to get: its fair share of what may go together."""
        # A task that is sent again goes alone: if it was the one that killed its worker, it harms no other.
        if self.retries:
            task, _ = self.retries.popitem(last=False)
            return [task]
        task = self.queue.pop(now)
        size = task.function.max_size or self._riders(task, limits)
        share = min(size, -(-(1 + self.queue.count_of(task.function)) // idle)) if size > 1 else 1
        if share < 2:
            return [task]
        return [
            task,
            *self.queue.pop_more(task.function, share - 1, now, clocks=task.function.max_size > 0),
        ]

    def full(self, workers: int) -> PoolFull:
        """Return the refusal of a full queue, with the time in which what waits should be done."""
        self._recorder.refused["full"] += 1
        return PoolFull(self.estimates.retry_after_s(self.queue.cost_s() / workers))

    def _riders(self, task: Task, limits: Limits) -> int:
        """Return how many calls of an ordinary function may share a frame: several only where they are quick.

        A task with a clock rides alone, so that its clock counts nobody else's run.
        """
        if not limits.can_ride or task.has_clock():
            return 1
        task_s = self.estimates.task_s(task.function)
        return min(MAX_RIDERS, int(RIDE_S / task_s)) if 0 < task_s < QUICK_S else 1

    def _check_deadline(self, task: Task, workers: int, now: float) -> None:
        if task.deadline_at < math.inf:
            late_s = self.estimates.late_s(task, self.queue, workers, now)
            if late_s > 0:
                self._recorder.refused["estimate"] += 1
                raise PoolFull(
                    self.estimates.retry_after_s(late_s),
                    "it would not be answered before its deadline",
                )

    def _make_backlog(self, task: Task, workers: int) -> Task:
        """Find a task to give its place to a new one: the newest of the key that waits with most.

        Without it one key fills the queue, and taking turns helps only those who are in it.
        """
        if self.queue.longest() < self.queue.length_of(task.source, task.key) + 2:
            raise self.full(workers)
        last = self.queue.last_of_longest()
        self.queue.remove(last)
        last.end()
        return last
