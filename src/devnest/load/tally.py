"""The counters of one generator process, sent to its parent once a second.

A request costs one look-up and one append. The samples are sent unchanged, and the parent process,
which has little else to do, makes the histograms.
"""

from array import array
from collections import Counter

import msgspec

__all__ = ["Counts", "Key", "Tally"]

# The request's name, the answer's status (0: none), and whether that status was expected.
Key = tuple[str, int, bool]


class Counts(msgspec.Struct):
    """Everything counted in a second. The durations are packed doubles, in seconds."""

    durations: list[tuple[str, int, bool, bytes]]
    connecting: bytes
    iterations: bytes
    checks: list[tuple[str, int, int]]  # name, passes, fails
    errors: list[tuple[str, str, int]]  # request name, reason, count
    dropped: int
    interrupted: int
    sent_bytes: int
    received_bytes: int


class Tally:
    """Counts since the last `take`. Used only by the event loop of one generator."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._durations: dict[Key, array[float]] = {}
        self._checks: Counter[tuple[str, bool]] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()
        self.connecting = array("d")
        self.iterations = array("d")
        self.dropped = 0
        self.interrupted = 0
        self.sent_bytes = 0
        self.received_bytes = 0

    def request(self, name: str, status: int, expected: bool, seconds: float) -> None:
        """Count a request and its duration."""
        key = (name, status, expected)
        samples = self._durations.get(key)
        if samples is None:
            samples = self._durations[key] = array("d")
        samples.append(seconds)

    def check(self, name: str, ok: bool) -> None:
        """Count a check."""
        self._checks[name, ok] += 1

    def error(self, name: str, reason: str) -> None:
        """Count a failure of a request by its reason."""
        self._errors[name, reason] += 1

    def take(self) -> Counts:
        """Return what was counted, and start again from zero."""
        names = dict.fromkeys(name for name, _ in self._checks)
        counts = Counts(
            durations=[(*key, samples.tobytes()) for key, samples in self._durations.items()],
            connecting=self.connecting.tobytes(),
            iterations=self.iterations.tobytes(),
            checks=[(name, self._checks[name, True], self._checks[name, False]) for name in names],
            errors=[(*key, count) for key, count in self._errors.items()],
            dropped=self.dropped,
            interrupted=self.interrupted,
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
        )
        self._clear()
        return counts
