"""One call given to the pool, and what can become of it."""

import enum
import math
import numbers
from collections.abc import Callable

from devnest.pool.errors import InvalidTask
from devnest.pool.functions import Function

__all__ = ["PRIORITIES", "Task", "TaskState", "check_options", "seconds"]

PRIORITIES = range(-100, 101)  # lower goes first; fits the wire's signed byte


class TaskState(enum.Enum):
    """Where a task is; ``docs/decisions/0020-pool.md`` draws the transitions."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    DONE = enum.auto()  # answered, or given up by its caller


class Task:
    """A call: what its caller wants of it, and the scheduler's notes about it.

    The upper half never changes, but that a task that is done lets go of what it carried: clocks know of it until
    they ring. The lower half is the scheduler's alone.
    """

    __slots__ = (
        "answer",
        "batch_id",
        "cost_s",
        "crashes",
        "deadline_at",
        "enqueued_at",
        "function",
        "key",
        "payload",
        "priority",
        "run_until",
        "source",
        "start_by",
        "state",
        "timeout_s",
        "worker_id",
    )

    def __init__(
        self,
        function: Function,
        payload: object,
        answer: Callable[[object], None],
        *,
        priority: int = 0,
        key: str = "",
        source: int = 0,
        timeout_s: float = math.inf,
        deadline_at: float = math.inf,
    ) -> None:
        self.function = function
        self.payload = payload  # opaque to the scheduler
        self.answer = (
            answer  # called once, with a worker's reply or a PoolError; never after a cancel
        )
        self.priority = priority
        self.key = key
        self.source = source  # the client it came from; 0 in the pool's own process
        self.timeout_s = timeout_s
        self.deadline_at = deadline_at

        self.state = TaskState.WAITING
        self.enqueued_at = 0.0
        self.start_by = math.inf  # begun later, it is not expected to be done by its deadline
        self.cost_s = 0.0  # seconds of a worker it is expected to take
        self.crashes = 0
        self.batch_id = 0
        self.worker_id = 0
        self.run_until = math.inf

    def end(self) -> None:
        """Note that it is done, and let go of its arguments."""
        self.state = TaskState.DONE
        self.payload = None

    def give(self, answer: object) -> None:
        """Give the answer to whoever waits for it, and let go of both."""
        give, self.answer = self.answer, _nobody
        give(answer)

    def has_clock(self) -> bool:
        """Whether it has a timeout or a deadline."""
        return self.timeout_s < math.inf or self.deadline_at < math.inf

    def __repr__(self) -> str:
        return f"<Task {self.function.name} {self.state.name.lower()} priority={self.priority} key={self.key!r}>"


def _nobody(_answer: object) -> None:
    """Stand for a caller that has its answer."""


def seconds(name: str, value: float | None) -> float:
    """Return an option of ``run`` that is a time; infinity for none. Raises :class:`InvalidTask`."""
    if value is None:
        return math.inf
    try:
        time_s = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # a whole number beyond all floats
        time_s = math.nan
    if math.isnan(time_s):
        raise InvalidTask(f"{name} must be a number of seconds")
    return time_s


def check_options(timeout_s: float, priority: int, key: str | None) -> None:
    """Raise :class:`InvalidTask` where an option of ``run`` is out of its range or cannot be sent."""
    if not timeout_s > 0:
        raise InvalidTask(f"timeout must be more than 0 seconds, not {timeout_s}")
    if not isinstance(priority, int) or priority not in PRIORITIES:
        raise InvalidTask(
            f"priority must be a whole number from {PRIORITIES.start} to {PRIORITIES.stop - 1}"
        )
    if key is not None and not (isinstance(key, str) and len(key) <= 255 and _is_utf8(key)):
        raise InvalidTask(
            "key must be a string of at most 255 characters, none of them a lone surrogate"
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
