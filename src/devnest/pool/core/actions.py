"""What the scheduler asks of the engine."""

from typing import NamedTuple

from devnest.pool.core.tasks import Task

__all__ = ["Action", "Answer", "Hold", "Kill", "Reclaim", "Send", "Start", "Stop"]


class Start(NamedTuple):
    """Start a worker."""

    worker_id: int


class Send(NamedTuple):
    """Send a batch, all of one function, to a worker."""

    worker_id: int
    batch_id: int
    batch: list[Task]
    payloads: list[
        object
    ]  # of the batch: a task may be given up, which lets go of its own, before it is sent


class Answer(NamedTuple):
    """Give a task its answer: a worker's reply or a :class:`PoolError`."""

    task: Task
    answer: object


class Stop(NamedTuple):
    """Let an idle worker leave by itself."""

    worker_id: int


class Hold(NamedTuple):
    """Let a worker begin no further call of its batch."""

    worker_id: int


class Reclaim(NamedTuple):
    """Say, by the scheduler's ``held``, how far a worker that was held had come."""

    worker_id: int


class Kill(NamedTuple):
    """Kill a worker."""

    worker_id: int


Action = Start | Send | Answer | Hold | Reclaim | Stop | Kill
