"""A task, its states, and the checks of its options."""

import enum
import math
import numbers
from collections.abc import Callable

from devnest.pool.errors import InvalidTask
from devnest.pool.functions import Function

__all__ = ["PRIORITIES", "Task", "TaskState", "check_options", "seconds"]

PRIORITIES = range(-100, 101)  # lower goes first; the protocol sends a priority as a signed byte


class TaskState(enum.Enum):
    """The state of a task; `docs/decisions/0020-pool.md` has the transitions."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    DONE = enum.auto()  # answered, cancelled or orphaned


class Task:
    """One call: what the caller asked for, and the scheduler's notes.

    The fields that the constructor takes do not change, except that a finished task drops its
    payload and its `answer`: timers may refer to it long after. Only the scheduler changes the
    other fields.
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
        "sent_at",
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
        self.payload = payload  # not read by the scheduler
        # Called once, with a worker's reply or a `PoolError`; never after a cancel.
        self.answer = answer
        self.priority = priority
        self.key = key
        self.source = source  # the client that sent it; 0 for the pool's own process
        self.timeout_s = timeout_s
        self.deadline_at = deadline_at

        self.state = TaskState.WAITING
        self.enqueued_at = 0.0
        self.sent_at = 0.0  # to the worker that has it, or had it
        self.start_by = math.inf  # a later start would probably miss the deadline
        self.cost_s = 0.0  # expected seconds of a worker's time
        self.crashes = 0
        self.batch_id = 0
        self.worker_id = 0
        self.run_until = math.inf

    def end(self) -> None:
        """Mark the task as done and drop its arguments."""
        self.state = TaskState.DONE
        self.payload = None

    def deliver(self, answer: object) -> None:
        """Call `answer` and drop it, so that the task does not keep its caller alive."""
        deliver, self.answer = self.answer, _discard
        deliver(answer)

    def is_timed(self) -> bool:
        """Whether the task has a timeout or a deadline."""
        return self.timeout_s < math.inf or self.deadline_at < math.inf

    def __repr__(self) -> str:
        function, state = self.function.name, self.state.name.lower()
        return f"<Task {function} {state} priority={self.priority} key={self.key!r}>"


def _discard(_answer: object) -> None:
    """Do nothing: the `answer` of a task whose caller has been answered."""


def seconds(name: str, value: float | None) -> float:
    """Return a time option of `run` in seconds, infinity for `None`, or raise `InvalidTask`."""
    if value is None:
        return math.inf
    try:
        time_s = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # an integer beyond the range of floats
        time_s = math.nan
    if math.isnan(time_s):
        raise InvalidTask(f"{name} must be a number of seconds")
    return time_s


def check_options(timeout_s: float, priority: int, key: str | None) -> None:
    """Raise `InvalidTask` if an option of `run` is out of range or cannot be sent."""
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
