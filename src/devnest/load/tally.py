"""What one generator counts, cheaply, and hands over once a second.

A request costs one look-up and one append here. The samples travel as they are, and the parent process, which
has the time, makes the histograms.
"""

from array import array
from collections import Counter

import msgspec

__all__ = ["Figures", "Key", "Tally"]

Key = tuple[
    str, int, bool
]  # the request's name, the answer's status (0: none), whether that was expected


class Figures(msgspec.Struct):
    """Everything counted since the figures before; durations are doubles, in seconds."""

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
    """Owned by one generator's loop."""

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
        key = (name, status, expected)
        samples = self._durations.get(key)
        if samples is None:
            samples = self._durations[key] = array("d")
        samples.append(seconds)

    def check(self, name: str, ok: bool) -> None:
        self._checks[name, ok] += 1

    def error(self, name: str, reason: str) -> None:
        self._errors[name, reason] += 1

    def take(self) -> Figures:
        """Hand over what was counted, and begin again."""
        names = dict.fromkeys(name for name, _ in self._checks)
        figures = Figures(
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
        return figures
