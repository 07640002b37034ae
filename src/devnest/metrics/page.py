"""The metrics of all processes, added up, in Prometheus' text format (version 0.0.4)."""

import math
from collections.abc import Iterable, Iterator
from operator import add

from devnest.metrics.numbers import Histogram, Numbers, Sample
from devnest.process_registry import Processes, usages

__all__ = ["CONTENT_TYPE", "DROPPED", "DROPPED_MEANING", "write_page"]

CONTENT_TYPE = "text/plain; version=0.0.4"  # Litestar appends the charset
DROPPED = "log_lines_dropped_total"
DROPPED_MEANING = "Lines of the log that could not be written"
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]


class Family:
    """All samples of one metric name."""

    def __init__(self, name: str, kind: str, meaning: str) -> None:
        self.head = f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
        self.name = name
        self.histograms: dict[Labels, Histogram] = {}
        self.values: dict[Labels, float] = {}

    def add_histogram(self, one: Histogram) -> None:
        """Add a histogram to the one with the same labels.

        One with other bounds cannot be added and is left out: a process of another release wrote
        it.
        """
        there = self.histograms.setdefault(_sorted(one.labels), one)
        if there is not one and there.bounds_s == one.bounds_s:
            there.counts = list(map(add, there.counts, one.counts))
            there.sum_s += one.sum_s

    def add_value(self, labels: dict[str, str], value: float) -> None:
        """Add a value to the one with the same labels."""
        key = _sorted(labels)
        self.values[key] = self.values.get(key, 0.0) + value

    def lines(self) -> Iterator[str]:
        """Yield the text of this metric, line by line."""
        yield self.head
        for labels, value in self.values.items():
            yield f"{self.name}{_braces(labels)} {value!r}\n"
        for labels, one in self.histograms.items():
            total = 0
            for bound_s, count in zip((*one.bounds_s, math.inf), one.counts, strict=True):
                total += count
                le = "+Inf" if bound_s == math.inf else repr(bound_s)
                yield f"{self.name}_bucket{_braces((*labels, ('le', le)))} {total}\n"
            yield f"{self.name}_sum{_braces(labels)} {one.sum_s!r}\n"
            yield f"{self.name}_count{_braces(labels)} {total}\n"


def write_page(numbers: Iterable[Numbers], processes: Processes, own_pid: int) -> bytes:
    """Return the page as Prometheus text.

    Args:
        numbers: The metrics of each process.
        processes: The running processes. Gauges of other processes are left out.
        own_pid: The process id of this process, which counts as running.
    """
    families: dict[str, Family] = {}

    def family(name: str, kind: str, meaning: str) -> Family:
        return families.setdefault(name, Family(name, kind, meaning))

    for process in numbers:
        for one in process.histograms:
            family(one.name, "histogram", process.meanings.get(one.name, "")).add_histogram(one)
        is_alive = process.pid in (own_pid, processes.pids.get(process.process))
        kinds: list[tuple[str, list[Sample]]] = [("counter", process.counters)]
        kinds += [("gauge", process.gauges)] if is_alive else []
        for kind, samples in kinds:
            for sample in samples:
                family(sample.name, kind, process.meanings.get(sample.name, "")).add_value(
                    sample.labels, sample.value
                )
    family(DROPPED, "counter", DROPPED_MEANING).add_value(
        {"process": "supervisor"}, processes.dropped_lines
    )
    cpu = family("process_cpu_seconds_total", "counter", "CPU time, user and system")
    memory = family("process_resident_memory_bytes", "gauge", "Resident memory")
    for usage in usages(processes):
        labels = {"process": usage.name, "pid": str(usage.pid)}
        cpu.add_value(labels, usage.cpu_s)
        memory.add_value(labels, usage.resident_bytes)
    restarts = family("process_restarts_total", "counter", "Children that died")
    for name, count in processes.restarts.items():
        restarts.add_value({"process": name}, count)
    return "".join(line for each in families.values() for line in each.lines()).encode()


def _sorted(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _braces(labels: Labels) -> str:
    inside = ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""
