"""The limits that a pool is given, and the scheduler's record of one worker."""

import dataclasses
import enum
import math

from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.errors import InvalidTask

__all__ = ["Limits", "Worker", "WorkerState"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a pool's workers and queue, checked when the object is made.

    `Pool` documents the options. `can_kill` is false for threads. `can_coalesce` allows several
    short calls of one function in one frame.
    """

    min_workers: int
    max_workers: int
    max_queue: int = 1000
    idle_timeout: float = 10.0
    max_tasks: int | None = None
    max_age: float | None = None
    max_rss: int | None = None
    boot_timeout: float = 60.0
    can_kill: bool = True
    can_coalesce: bool = False

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
    """The state of a worker; `docs/decisions/0020-pool.md` has the transitions."""

    STARTING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    STOPPING = enum.auto()  # was asked to exit, and exits by itself
    KILLED = enum.auto()


class Worker:
    """The record of a worker. `Workers` alone changes it; the engine owns the process or thread."""

    __slots__ = (
        "batch",
        "batch_id",
        "boot_until",
        "hold_at",
        "id",
        "idle_check_at",
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
        # Times at which `Workers` has to check this worker.
        self.boot_until = boot_until
        # A worker has at most one such timer at a time, not one for each task.
        self.idle_check_at = math.inf
        self.retire_at = math.inf
        self.kill_at = math.inf  # when to kill it, as nobody waits for its batch
        self.kill_reason = ""
        self.hold_at = math.inf  # coalesced calls that have not begun by then go to other workers
        self.is_held = False

    def is_awaited(self) -> bool:
        """Whether any task of its batch still has a caller."""
        return any(task.state is TaskState.RUNNING for task in self.batch)

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.name.lower()} batch={len(self.batch)}>"
