"""The actions that the scheduler asks the engine to take."""

from typing import NamedTuple

from devnest.pool.core.tasks import Task

__all__ = ["Action", "Answer", "Hold", "Kill", "Reclaim", "Send", "Start", "Stop"]


class Start(NamedTuple):
    """Start a worker."""

    worker_id: int


class Send(NamedTuple):
    """Send a batch of calls of one function to a worker."""

    worker_id: int
    batch_id: int
    batch: list[Task]
    payloads: list[object]  # held here because a task that is cancelled drops its own payload


class Answer(NamedTuple):
    """Give a task its answer: a worker's reply or a `PoolError`."""

    task: Task
    answer: object


class Stop(NamedTuple):
    """Ask an idle worker to exit."""

    worker_id: int


class Hold(NamedTuple):
    """Keep a worker from beginning further calls of its batch."""

    worker_id: int


class Reclaim(NamedTuple):
    """Report to `Scheduler.held` which call of its batch a held worker began last."""

    worker_id: int


class Kill(NamedTuple):
    """Kill a worker."""

    worker_id: int


Action = Start | Send | Answer | Hold | Reclaim | Stop | Kill
