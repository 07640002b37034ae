"""What the pool knows of one worker, and the limits that its workers and its queue are kept within."""

import dataclasses
import enum
import math

from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.errors import InvalidTask

__all__ = ["Limits", "Worker", "WorkerState"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How many workers and waiting tasks, and how long a worker stays; checked when made."""

    min_workers: int
    max_workers: int
    max_queue: int = 1000
    idle_timeout: float = 10.0
    max_tasks: int | None = None
    max_age: float | None = None
    max_rss: int | None = None
    boot_timeout: float = 60.0
    can_kill: bool = True
    can_ride: bool = False  # quick calls may share a frame

    def __post_init__(self) -> None:
        if not 0 <= self.min_workers <= self.max_workers or self.max_workers < 1:
            raise InvalidTask(f"cannot keep {self.min_workers} to {self.max_workers} workers")
        if self.max_queue < 0:
            raise InvalidTask(f"max_queue must be 0 or more, not {self.max_queue}")
        for name in ("idle_timeout", "max_tasks", "max_age", "max_rss", "boot_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidTask(f"{name} must be more than 0, not {value}")


class WorkerState(enum.Enum):
    """Where a worker is; ``docs/decisions/0020-pool.md`` draws the transitions."""

    STARTING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    STOPPING = enum.auto()  # told to go; it leaves by itself
    KILLED = enum.auto()


class Worker:
    """The record of a worker, changed by the workers alone; the process or thread itself is the engine's."""

    __slots__ = (
        "batch",
        "batch_id",
        "boot_until",
        "hold_at",
        "id",
        "idle_look_at",
        "idle_since",
        "is_held",
        "kill_at",
        "kill_reason",
        "retire_at",
        "sent_at",
        "state",
        "tasks_left",
    )

    def __init__(self, worker_id: int, boot_until: float) -> None:
        self.id = worker_id
        self.state = WorkerState.STARTING
        self.batch: list[Task] = []
        self.batch_id = 0
        self.sent_at = 0.0
        self.idle_since = 0.0
        self.tasks_left = math.inf
        # The moments at which the workers has to look at it.
        self.boot_until = boot_until
        self.idle_look_at = (
            math.inf
        )  # at most one at a time: a busy pool does not set one for each task
        self.retire_at = math.inf
        self.kill_at = math.inf  # nobody waits for its batch any more
        self.kill_reason = ""
        self.hold_at = math.inf  # quick calls ride together and should all be done by then
        self.is_held = False

    def is_awaited(self) -> bool:
        """Whether anyone waits for a task of its batch."""
        return any(task.state is TaskState.RUNNING for task in self.batch)

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.name.lower()} batch={len(self.batch)}>"
