"""Measures bcrypt on this machine: every lane count in both layouts beside pyca/bcrypt, and what follows."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile

import bcrypt as pyca

from devnest.bcrypt._backend import KERNEL, PROBLEM, hash_all, with_kernel
from devnest.bcrypt._choice import LANES_MAX, Choice
from devnest.bcrypt._machine import cpu_model, usable_cores
from devnest.bcrypt._text import COST_MAX, COST_MIN, SALT_BYTES, Setting

__all__ = ["STATED_COST", "Calibration", "Rates", "calibrate_machine", "measure"]

STATED_COST = 10  # rates are stated for this cost; one more halves them
RUN_COST = 8  # and measured at this one: tens of milliseconds a run
ROUNDS = 5
NEAR_BEST = 0.98  # of two lane counts this close the smaller one: its batches are done sooner

PASSWORDS = [b"correct horse battery staple %d" % lane for lane in range(LANES_MAX)]
SETTINGS = [Setting(b"2b", RUN_COST, bytes([lane]) * SALT_BYTES) for lane in range(LANES_MAX)]


@dataclass(frozen=True)
class Rates:
    """Hashes per second on one core at STATED_COST; a layout's list has one rate for each lane count from 1."""

    pyca: float
    narrow: list[float]
    wide: list[float]

    def of(self, choice: Choice) -> float:
        """The rate of full groups under this choice."""
        if not self.narrow:
            return self.pyca
        return (self.wide if choice.lanes <= choice.wide_lanes else self.narrow)[choice.lanes - 1]

    def best(self) -> Choice:
        """The choice these rates speak for; one lane where there is no kernel."""
        if not self.narrow:
            return Choice(1, 0)
        pairs = zip(self.narrow, self.wide, strict=True)
        wide_lanes = sum(1 for _ in takewhile(lambda pair: pair[1] >= pair[0], pairs))
        choices = [Choice(lanes, wide_lanes) for lanes in range(1, LANES_MAX + 1)]
        enough = NEAR_BEST * max(map(self.of, choices))
        return next(choice for choice in choices if self.of(choice) >= enough)


@dataclass(frozen=True)
class Calibration:
    """What `devnest calibrate` tells."""

    cpu: str
    cores: int
    problem: str  # why there is no kernel; empty where there is one
    stated_cost: int
    rates: Rates
    lanes: int
    wide_lanes: int
    ratio: float  # best rate over pyca/bcrypt's
    target_ms: float
    target_met: bool  # whether even the lowest cost is within the target
    cost: int  # the highest whose batch is done within the target
    batch_ms: float  # one full batch at that cost
    sign_ins_per_s: float  # at that cost, all cores hashing at once, as measured

    def as_dict(self) -> dict[str, object]:
        """For --json."""
        return asdict(self)


def measure(rounds: int = ROUNDS) -> Rates:
    """Every lane count and layout and pyca/bcrypt, alternating; medians."""
    runs: dict[tuple[str, int], tuple[int, Callable[[], object]]] = {
        ("pyca", 1): (1, partial(pyca.hashpw, PASSWORDS[0], SETTINGS[0].text()))
    }
    kernel = KERNEL
    if kernel is not None:
        for lanes in range(1, LANES_MAX + 1):
            for layout, wide_lanes in (("narrow", 0), ("wide", LANES_MAX)):
                arguments = (kernel, Choice(lanes, wide_lanes), PASSWORDS[:lanes], SETTINGS[:lanes])
                runs[layout, lanes] = (lanes, partial(with_kernel, *arguments))
    seen: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, (hashes, run) in runs.items():
            start = time.perf_counter()
            run()
            seen[key].append(_stated(hashes / (time.perf_counter() - start)))
    medians = {key: statistics.median(rates) for key, rates in seen.items()}
    return Rates(
        medians["pyca", 1],
        *([rate for (name, _), rate in medians.items() if name == layout] for layout in ("narrow", "wide")),
    )


def machine_rate(choice: Choice, cores: int, rounds: int = ROUNDS) -> float:
    """Hashes per second at STATED_COST with every core hashing; cores that share a core's innards add less."""
    passwords, settings = PASSWORDS[: choice.lanes], SETTINGS[: choice.lanes]

    def work() -> None:
        for _ in range(rounds):
            if KERNEL is None:
                hash_all(passwords, settings)
            else:
                with_kernel(KERNEL, choice, passwords, settings)

    threads = [threading.Thread(target=work) for _ in range(cores)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _stated(cores * rounds * choice.lanes / (time.perf_counter() - start))


def calibrate_machine(target_ms: float, rounds: int = ROUNDS) -> Calibration:
    """Measure, choose, and work out what it means here."""
    rates = measure(rounds)
    choice, cores = rates.best(), usable_cores()
    rate = rates.of(choice)
    stated_ms = 1000 * choice.lanes / rate
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
        lanes=choice.lanes,
        wide_lanes=choice.wide_lanes,
        ratio=rate / rates.pyca,
        target_ms=target_ms,
        target_met=bool(within),
        cost=cost,
        batch_ms=batch_ms[cost],
        sign_ins_per_s=machine_rate(choice, cores, rounds) * 2.0 ** (STATED_COST - cost),
    )


def _stated(rate: float) -> float:
    return rate * 2.0 ** (RUN_COST - STATED_COST)
