"""The workers a pool has: how many there should be, which of them go, and when the next may start."""

import dataclasses
import enum
import itertools
import math
import random
from collections.abc import Callable

from devnest.pool.errors import InvalidTask
from devnest.pool.tasks import Task, TaskState

__all__ = ["Crew", "Limits", "Worker", "WorkerState"]

BACKOFF_FIRST_S = 0.1  # before the second start in a row that led to nothing
BACKOFF_MOST_S = 5.0
JITTER = 0.2  # recycling limits vary by this share, so that workers started together do not go together


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
    """The scheduler's record of a worker; the process or thread itself is the engine's."""

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
        # The moments at which the scheduler has to look at it.
        self.boot_until = boot_until
        self.idle_look_at = math.inf  # at most one at a time: a busy pool does not set one for each task
        self.retire_at = math.inf
        self.kill_at = math.inf  # nobody waits for its batch any more
        self.hold_at = math.inf  # quick calls ride together and should all be done by then
        self.is_held = False

    def is_awaited(self) -> bool:
        """Whether anyone waits for a task of its batch."""
        return any(task.state is TaskState.RUNNING for task in self.batch)

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.name.lower()} batch={len(self.batch)}>"


class Crew:
    """Every worker that has not ended yet, by state. Only the scheduler changes it."""

    def __init__(self, limits: Limits, jitter: Callable[[], float] = random.random) -> None:
        self.limits = limits
        self.all: dict[int, Worker] = {}
        self.starting: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}  # the last one in is the first to get work, so that spare ones stay idle
        self.busy: dict[int, Worker] = {}
        self.retiring: dict[int, Worker] = {}  # idle or busy ones that go as soon as their replacement is ready
        self.next_start_at = 0.0
        self._failures = 0  # deaths since a worker last did anything useful
        self._ids = itertools.count(1)
        self._jitter = jitter

    @property
    def size(self) -> int:
        """Workers that count towards the wanted number."""
        return len(self.starting) + len(self.idle) + len(self.busy) - len(self.retiring)

    def wanted(self, waiting: int, *, closing: bool) -> int:
        """Return how many workers there should be while so many tasks wait."""
        least = 0 if closing else self.limits.min_workers
        unmet = max(0, waiting - len(self.starting) - len(self.idle))
        return min(self.limits.max_workers, max(least, self.size + unmet))

    def add(self, now: float) -> Worker:
        """Make the record of a worker that starts now."""
        worker = Worker(next(self._ids), now + self.limits.boot_timeout)
        self.all[worker.id] = self.starting[worker.id] = worker
        return worker

    def booted(self, worker: Worker, now: float) -> None:
        """Note that a worker said it is ready, and draw when it is to be recycled."""
        del self.starting[worker.id]
        worker.boot_until = math.inf
        if self.limits.max_tasks is not None:
            worker.tasks_left = max(1, round(self._vary(self.limits.max_tasks)))
        if self.limits.max_age is not None:
            worker.retire_at = now + self._vary(self.limits.max_age)
        self.rest(worker, now)

    def rest(self, worker: Worker, now: float) -> None:
        """Put a worker among the idle ones."""
        self.busy.pop(worker.id, None)
        worker.state = WorkerState.IDLE
        worker.idle_since = now
        worker.batch = []
        self.idle[worker.id] = worker

    def engage(self, batch: list[Task], batch_id: int, now: float) -> Worker:
        """Give a batch to the worker that was busy last."""
        _, worker = self.idle.popitem()
        self.busy[worker.id] = worker
        worker.state = WorkerState.BUSY
        worker.batch, worker.batch_id, worker.sent_at = batch, batch_id, now
        worker.kill_at = worker.hold_at = math.inf
        worker.is_held = False
        worker.tasks_left -= len(batch)
        return worker

    def dismiss(self, worker: Worker, state: WorkerState) -> None:
        """Take a worker out of service; it is remembered until it has ended."""
        for group in (self.starting, self.idle, self.busy, self.retiring):
            group.pop(worker.id, None)
        worker.state = state
        worker.batch = []

    def forget(self, worker: Worker) -> None:
        """The worker has ended."""
        self.dismiss(worker, WorkerState.KILLED)
        del self.all[worker.id]

    def surplus(self, wanted: int, *, all_done: bool) -> list[Worker]:
        """Return the workers that are to go now, none of them busy; with ``all_done`` that is everyone."""
        if all_done:
            return [*self.starting.values(), *self.idle.values()]
        # A retiring worker goes when fewer replacements are awaited than there are workers that retire.
        awaited = len(self.starting) + max(0, wanted - self.size)
        replaced = list(self.retiring.values())[: max(0, len(self.retiring) - awaited)]
        gone = [worker for worker in replaced if worker.state is WorkerState.IDLE]
        too_many = max(0, self.size - self.limits.max_workers)
        return gone + [worker for worker in self.idle.values() if worker.id not in self.retiring][:too_many]

    def is_spare(self, worker: Worker) -> bool:
        """Whether an idle worker may go without the pool falling below its least size."""
        return self.size > self.limits.min_workers or worker.id in self.retiring

    def failed(self, now: float) -> None:
        """Note a death. From the second in a row on, the next start waits, longer each time up to a limit."""
        self._failures += 1
        if self._failures > 1:
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures - 2, 30))
            self.next_start_at = now + delay_s

    def succeeded(self) -> None:
        """Note that a worker answered a batch."""
        self._failures = 0

    def _vary(self, limit: float) -> float:
        return limit * (1.0 - JITTER * self._jitter())
