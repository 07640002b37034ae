"""Errors of the pool; an exception that a task raises reaches the caller as itself."""

__all__ = [
    "FORKED",
    "DeadlineExceeded",
    "InvalidTask",
    "NotPicklable",
    "PoolClosed",
    "PoolError",
    "PoolFull",
    "TaskTimeout",
    "WorkerCrashed",
    "WorkerTraceback",
    "safe_repr",
]

OTHER_LOOP = (
    "the pool was started on another event loop; await it there, or use PoolExecutor(pool=...) "
    "from other threads"
)
NOT_OPEN = "the pool has not been started; use `async with`"
FORKED = "the pool was started before a fork; start one in each process"
MAX_REPR_CHARS = 500  # of an object's `repr` in an error message, which could be of any length


class PoolError(Exception):
    """The base class of all errors of the pool, never raised itself.

    Attributes:
        retry_after: Seconds after which another attempt may succeed: 1 for all but `PoolFull`,
            which knows better. `Retry-After` needs a whole number: `math.ceil(error.retry_after)`.
    """

    retry_after: float = 1.0


class PoolFull(PoolError):
    """The task was refused immediately: the queue is full, or it would probably miss its deadline.

    Attributes:
        retry_after: Seconds after which another attempt is expected to succeed.
        reason: Why the task was refused, as a phrase.
    """

    def __init__(self, retry_after: float, reason: str = "the queue is full") -> None:
        super().__init__(f"{reason}; try again in {retry_after:.3g} s")
        self.retry_after = retry_after
        self.reason = reason

    def __reduce__(self) -> tuple[type["PoolFull"], tuple[float, str]]:
        return type(self), (self.retry_after, self.reason)


class TaskTimeout(PoolError, TimeoutError):
    """The task ran longer than its `timeout`."""


class DeadlineExceeded(PoolError, TimeoutError):
    """The task was not answered by its `deadline`."""


class WorkerCrashed(PoolError):
    """The worker died while it ran the task, or no worker could be started; the message says how.

    It also stands for an exception that would end or cancel the caller, such as `SystemExit`.
    """


class PoolClosed(PoolError):
    """The pool is closed or was not started, or no server of the shared pool answers.

    Tasks that a pool has accepted raise it if the pool is closed by force.
    """


class InvalidTask(PoolError, TypeError, ValueError):
    """The call or an option is invalid; running it again would fail again.

    Examples are a function that a worker cannot import, an argument that cannot be pickled, and an
    option out of its range.
    """


class NotPicklable(PoolError, TypeError):
    """The task's result or exception cannot be pickled or unpickled; the message says why."""


class WorkerTraceback(Exception):
    """The `__cause__` of an exception that a task raised: the worker's traceback as text.

    Attributes:
        text: The traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the worker:\n{self.text}"


def safe_repr(value: object) -> str:
    """Return an object's `repr`, shortened, or a description of its type if `repr` fails."""
    try:
        text = str.__getitem__(repr(value), slice(MAX_REPR_CHARS + 1))
        return text if len(text) <= MAX_REPR_CHARS else f"{text[:MAX_REPR_CHARS]}…"
    except BaseException:
        return f"a {type.__repr__(type(value))} that cannot say what it is"
