"""Measures bcrypt on this machine with each number of lanes, beside pyca/bcrypt.

All CPUs hash at once, as they do on a busy server. Two CPUs may be threads of one core, which share
its execution units and its level-1 cache, so the best number for one alone may not be the best for
both.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from threading import Barrier

import bcrypt as pyca

from devnest.bcrypt.backend import KERNEL, PROBLEM, with_kernel
from devnest.bcrypt.encoding import MAX_COST, MIN_COST, SALT_BYTES, Setting
from devnest.bcrypt.lanes import MAX_LANES, MAX_NARROW_LANES, most_measured
from devnest.bcrypt.machine import cpu_model

__all__ = ["STATED_COST", "Calibration", "Rates", "calibrate_machine", "measure"]

STATED_COST = 10  # rates are given for this cost; one more halves them
RUN_COST = 8  # the cost that is measured: a run takes tens of milliseconds
ROUNDS = 5  # runs of each number of lanes; the median counts
MAX_START_S = 10.0  # until all threads of a run have started
NEAR_BEST = 0.98  # the smallest number of lanes with this share of the best rate is chosen
MIN_WIDE_GAIN = 1.05  # seven or eight lanes are chosen from this gain on: their batch takes longer

PASSWORDS = [b"correct horse battery staple %d" % lane for lane in range(MAX_LANES)]
SETTINGS = [Setting(b"2b", RUN_COST, bytes([lane]) * SALT_BYTES) for lane in range(MAX_LANES)]


@dataclass(frozen=True)
class Rates:
    """Hashes per second of one core at cost 10.

    Attributes:
        pyca: The rate of pyca/bcrypt.
        kernel: The kernel's rate with 1, 2, … lanes; empty where there is no kernel.
    """

    pyca: float
    kernel: list[float]

    def of(self, lanes: int) -> float:
        """Return the rate with all of so many lanes in use."""
        return self.kernel[lanes - 1] if self.kernel else self.pyca

    def best(self) -> int:
        """Return the number of lanes to use; 1 where there is no kernel."""
        if not self.kernel:
            return 1
        narrow = self._smallest_near_best(1, MAX_NARROW_LANES)
        if len(self.kernel) > MAX_NARROW_LANES:
            wide = self._smallest_near_best(MAX_NARROW_LANES + 1, MAX_LANES)
            if self.of(wide) >= MIN_WIDE_GAIN * self.of(narrow):
                return wide
        return narrow

    def batch_ms(self, lanes: int) -> float:
        """Return how many milliseconds a batch takes that fills so many lanes, at cost 10."""
        return 1000 * lanes / self.of(lanes)

    def _smallest_near_best(self, first: int, last: int) -> int:
        enough = NEAR_BEST * max(self.kernel[first - 1 : last])
        return next(lanes for lanes in range(first, last + 1) if self.of(lanes) >= enough)


@dataclass(frozen=True)
class Calibration:
    """The result of `devnest calibrate`.

    Attributes:
        cpu: The name of the CPU.
        cores: How many CPUs hashed at once.
        problem: Why there is no kernel; empty where there is one.
        stated_cost: The cost that `rates` are given for.
        rates: Hashes per second of one CPU.
        lanes: The number of lanes to use.
        ratio: The rate with these lanes over that of pyca/bcrypt.
        target_ms: The time that was asked for, for a full batch.
        target_met: Whether the lowest cost is within that time.
        cost: The highest cost whose full batch is within that time.
        batch_ms: How long a full batch takes at that cost.
        sign_ins_per_s: Passwords per second of all CPUs at that cost.
    """

    cpu: str
    cores: int
    problem: str
    stated_cost: int
    rates: Rates
    lanes: int
    ratio: float
    target_ms: float
    target_met: bool
    cost: int
    batch_ms: float
    sign_ins_per_s: float

    def as_dict(self) -> dict[str, object]:
        """Return all of it as a dictionary, for `--json`, with the time of each batch."""
        result = asdict(self)
        counts = range(1, len(self.rates.kernel) + 1)
        result["rates"]["batch_ms"] = [self.rates.batch_ms(lanes) for lanes in counts]
        return result


def measure(rounds: int = ROUNDS, cores: int = 1) -> Rates:
    """Measure pyca/bcrypt and each number of lanes, one after another, several times.

    Args:
        rounds: How many times.
        cores: How many threads hash at once.

    Returns:
        The medians of one core's rates.
    """
    runs: list[tuple[int, Callable[[], object]]] = [
        (1, partial(pyca.hashpw, PASSWORDS[0], SETTINGS[0].text()))
    ]
    if KERNEL is not None:
        runs += [
            (lanes, partial(with_kernel, KERNEL, lanes, PASSWORDS[:lanes], SETTINGS[:lanes]))
            for lanes in range(1, most_measured() + 1)
        ]
    seen: list[list[float]] = [[] for _ in runs]
    with ThreadPoolExecutor(cores) as threads:  # hashing releases the GIL
        for _ in range(rounds):
            for rates, (hashes, run) in zip(seen, runs, strict=True):
                durations_s = threads.map(
                    _duration_s, cores * [run], cores * [Barrier(cores, timeout=MAX_START_S)]
                )
                rates.append(
                    _stated(statistics.mean(hashes / duration_s for duration_s in durations_s))
                )
    alone, *kernel = map(statistics.median, seen)
    return Rates(alone, kernel)


def _duration_s(run: Callable[[], object], together: Barrier) -> float:
    together.wait()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def calibrate_machine(target_ms: float, cores: int, rounds: int = ROUNDS) -> Calibration:
    """Measure this machine, and choose the number of lanes and the cost.

    Args:
        target_ms: How long a full batch may take.
        cores: How many CPUs hash at once.
        rounds: How many times each number of lanes is measured.
    """
    rates = measure(rounds, cores)
    lanes = rates.best()
    rate = rates.of(lanes)
    stated_ms = rates.batch_ms(lanes)
    costs = range(MIN_COST, MAX_COST + 1)
    batch_ms = {cost: stated_ms * 2.0 ** (cost - STATED_COST) for cost in costs}
    within: Sequence[int] = [cost for cost in costs if batch_ms[cost] <= target_ms]
    cost = max(within, default=MIN_COST)
    return Calibration(
        cpu=cpu_model(),
        cores=cores,
        problem=PROBLEM,
        stated_cost=STATED_COST,
        rates=rates,
        lanes=lanes,
        ratio=rate / rates.pyca,
        target_ms=target_ms,
        target_met=bool(within),
        cost=cost,
        batch_ms=batch_ms[cost],
        sign_ins_per_s=cores * rate * 2.0 ** (STATED_COST - cost),
    )


def _stated(rate: float) -> float:
    return rate * 2.0 ** (RUN_COST - STATED_COST)
