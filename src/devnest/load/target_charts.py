"""Charts of what the target did during a run, from the samples of its metrics."""

from collections.abc import Sequence

from devnest.load.charts import Line, Lines, Role
from devnest.load.page import figure
from devnest.load.watch import Sample

__all__ = ["TargetRun", "target_charts", "target_figures", "why"]

# Kinds of processes in the order of the legend; others use next to nothing.
KINDS = ("servers", "workers", "pool")
TITLES = {
    "target-lag": (
        "How long the event loop stood still",
        "While it stands still, a server answers nobody. The mean delay of a timer, in the slowest "
        "server.",
    ),
    "target-cpu": (
        "Where the CPU time went",
        "Cores used by the servers, which answer requests, and by the workers, which hash.",
    ),
    "target-queue": ("Passwords waiting for a worker", "Calls in the queue of the pool."),
    "target-batch": (
        "Passwords hashed at once on a core",
        "Mean number of calls in a batch; each worker hashes a batch in lanes.",
    ),
}


class TargetRun:
    """The samples of one run.

    Args:
        name: What the lines are called.
        samples: Of its target.
        role: The colour of its lines; None gives each line a colour of its own.
    """

    def __init__(self, name: str, samples: Sequence[Sample], role: Role | None = None) -> None:
        self.name = name
        self.samples = samples
        self.role = role


def target_charts(runs: Sequence[TargetRun]) -> dict[str, Lines]:
    """Return the charts by the identities of `target_figures`, or nothing without a sample."""
    runs = [run for run in runs if run.samples]
    if not runs:
        return {}
    alone = len(runs) == 1
    charts = {
        "target-lag": Lines(
            "ms", [_line(run, [each.lag_ms for each in run.samples]) for run in runs]
        ),
        "target-cpu": Lines("cores", [line for run in runs for line in _cores(run, alone)]),
    }
    pooled = [run for run in runs if any(each.batch is not None for each in run.samples)]
    if pooled:
        queued = [_line(run, [each.queued for each in run.samples]) for run in pooled]
        batches = [_line(run, [each.batch for each in run.samples]) for run in pooled]
        charts["target-queue"] = Lines("calls", queued)
        charts["target-batch"] = Lines("calls", batches)
    return charts


def target_figures(charts: dict[str, Lines]) -> list[str]:
    """Return the HTML elements for charts of `target_charts`."""
    return [figure(name, *TITLES[name]) for name in charts]


def why(before: Sequence[Sample], after: Sequence[Sample]) -> str:
    """Return, as a sentence, what the event loops and the workers did; or nothing if unknown."""
    late = [_mean([each.lag_ms for each in samples]) for samples in (before, after)]
    if late[0] is None or late[1] is None:
        return ""
    batch = _mean([each.batch for each in after])
    workers = f": workers hash, {batch:.1f} passwords at once on each core" if batch else ""
    return (
        f"Before, the event loop stood still for {late[0]:,.0f} ms at a time on average; after, "
        f"for {late[1]:,.0f} ms{workers}."
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _line(run: TargetRun, values: Sequence[float | None]) -> Line:
    return Line(run.name, [each.second for each in run.samples], values, run.role or 0)


def _cores(run: TargetRun, alone: bool) -> list[Line]:
    seconds = [each.second for each in run.samples]
    lines = []
    for index, kind in enumerate(KINDS):
        values = [each.cores.get(kind, 0.0) for each in run.samples]
        if any(value >= 0.05 for value in values):
            name = kind if alone else f"{run.name}: {kind}"
            role = index if run.role is None else run.role
            lines.append(Line(name, seconds, values, role, dashed=not alone and index > 0))
    return lines
