"""What a pool raises by itself; a task's own exception reaches the caller as itself."""

__all__ = [
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

MAX_REPR_CHARS = 500  # of what somebody's object says of itself, in a message of ours


class PoolError(Exception):
    """The base of every error of the pool; never raised itself."""


class PoolFull(PoolError):
    """The task was refused at once: no room, or no chance to be answered before its deadline.

    ``retry_after`` is the number of seconds after which another try is expected to succeed.
    """

    def __init__(self, retry_after: float, reason: str = "the queue is full") -> None:
        super().__init__(f"{reason}; try again in {retry_after:.3g} s")
        self.retry_after = retry_after
        self.reason = reason

    def __reduce__(self) -> tuple[type["PoolFull"], tuple[float, str]]:
        return type(self), (self.retry_after, self.reason)


class TaskTimeout(PoolError, TimeoutError):
    """The task ran longer than its ``timeout``."""


class DeadlineExceeded(PoolError, TimeoutError):
    """The task was not answered within its ``deadline``, counted from the call."""


class WorkerCrashed(PoolError):
    """The worker died while it ran the task, or none could be started; the message says how."""


class PoolClosed(PoolError):
    """The pool takes no more tasks, or was closed by force before this one was answered."""


class InvalidTask(PoolError, TypeError, ValueError):
    """The call is wrong: a function a worker cannot import, an argument no pickle holds, a bad option."""


class NotPicklable(PoolError, TypeError):
    """The task's result, or its exception, could not travel back; the message says why."""


class WorkerTraceback(Exception):
    """The worker's traceback as text: the ``__cause__`` of an exception that a task raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the worker:\n{self.text}"


def safe_repr(value: object) -> str:
    """Return what an object says of itself, in a line of bounded length, whatever its ``__repr__`` does."""
    try:
        text = str.__getitem__(repr(value), slice(MAX_REPR_CHARS + 1))
        return text if len(text) <= MAX_REPR_CHARS else f"{text[:MAX_REPR_CHARS]}…"
    except BaseException:
        return f"a {type.__repr__(type(value))} that cannot say what it is"
