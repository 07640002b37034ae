"""Measures bcrypt on this machine: every lane count beside pyca/bcrypt, and what follows.

All cores hash at once, as they do where many sign in: two that are threads of one core share its units and its level-1
cache, and what is best for one alone may not be for both.
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
from devnest.bcrypt.encoding import COST_MAX, COST_MIN, SALT_BYTES, Setting
from devnest.bcrypt.lanes import LANES_MAX
from devnest.bcrypt.machine import cpu_model

__all__ = ["STATED_COST", "Calibration", "Rates", "calibrate_machine", "measure"]

STATED_COST = 10  # rates are stated for this cost; one more halves them
RUN_COST = 8  # and measured at this one: tens of milliseconds a run
ROUNDS = 5
START_S = 10.0  # for the threads of a run to be there
NEAR_BEST = 0.98  # of two lane counts this close the smaller one: its batches are done sooner

PASSWORDS = [b"correct horse battery staple %d" % lane for lane in range(LANES_MAX)]
SETTINGS = [Setting(b"2b", RUN_COST, bytes([lane]) * SALT_BYTES) for lane in range(LANES_MAX)]


@dataclass(frozen=True)
class Rates:
    """Hashes per second of a core at STATED_COST; `kernel` has one rate for each lane count from 1."""

    pyca: float
    kernel: list[float]

    def of(self, lanes: int) -> float:
        """The rate of full groups of so many lanes."""
        return self.kernel[lanes - 1] if self.kernel else self.pyca

    def best(self) -> int:
        """The lane count these rates speak for; one where there is no kernel."""
        if not self.kernel:
            return 1
        enough = NEAR_BEST * max(self.kernel)
        return next(lanes for lanes, rate in enumerate(self.kernel, start=1) if rate >= enough)


@dataclass(frozen=True)
class Calibration:
    """What `devnest calibrate` tells."""

    cpu: str
    cores: int
    problem: str  # why there is no kernel; empty where there is one
    stated_cost: int
    rates: Rates
    lanes: int
    ratio: float  # best rate over pyca/bcrypt's
    target_ms: float
    target_met: bool  # whether even the lowest cost is within the target
    cost: int  # the highest whose batch is done within the target
    batch_ms: float  # one full batch at that cost
    sign_ins_per_s: float  # at that cost, of all cores

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return asdict(self)


def measure(rounds: int = ROUNDS, cores: int = 1) -> Rates:
    """Every lane count and pyca/bcrypt, alternating, on so many cores at once; medians of a core's rate."""
    runs: list[tuple[int, Callable[[], object]]] = [
        (1, partial(pyca.hashpw, PASSWORDS[0], SETTINGS[0].text()))
    ]
    if KERNEL is not None:
        runs += [
            (lanes, partial(with_kernel, KERNEL, lanes, PASSWORDS[:lanes], SETTINGS[:lanes]))
            for lanes in range(1, LANES_MAX + 1)
        ]
    seen: list[list[float]] = [[] for _ in runs]
    with ThreadPoolExecutor(cores) as threads:  # hashing holds no interpreter lock
        for _ in range(rounds):
            for rates, (hashes, run) in zip(seen, runs, strict=True):
                durations_s = threads.map(
                    _duration_s, cores * [run], cores * [Barrier(cores, timeout=START_S)]
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
    """Measure on so many cores at once, choose, and work out what it means here."""
    rates = measure(rounds, cores)
    lanes = rates.best()
    rate = rates.of(lanes)
    stated_ms = 1000 * lanes / rate
    costs = range(COST_MIN, COST_MAX + 1)
    batch_ms = {cost: stated_ms * 2.0 ** (cost - STATED_COST) for cost in costs}
    within: Sequence[int] = [cost for cost in costs if batch_ms[cost] <= target_ms]
    cost = max(within, default=COST_MIN)
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
