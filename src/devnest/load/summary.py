"""The summary at the end of a run, as text and as JSON."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from devnest.busy import MAX_BUSY_SHARE, MAX_STOLEN_SHARE
from devnest.load.metrics import (
    METRICS,
    Counter,
    Gauge,
    Metric,
    Rate,
    TrendMetric,
    all_metrics,
    metric,
)
from devnest.load.result import MAX_CPU_SHARE, MAX_STALL_S, Result
from devnest.load.thresholds import Verdict

__all__ = ["exported", "milliseconds", "notices", "summary"]

_NAME_CHARS = 24
_MAX_ERRORS = 10  # kinds of failures listed; the others are only counted


def summary(result: Result, verdicts: Sequence[Verdict] = ()) -> str:
    """Return the text printed at the end.

    It has the thresholds, k6's metrics, a table of the routes, the failures, and how busy the
    generator was.
    """
    blocks = [
        _listed("thresholds", [str(verdict) for verdict in verdicts]),
        _listed("checks that failed", _failed_checks(result)),
        "\n".join(
            _metric_line(result, name)
            for name in METRICS
            if name != "dropped_iterations" or result.dropped
        ),
        _routes(result),
        _listed("failures", _failures(result)),
        "\n".join(_about(result)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def exported(result: Result, verdicts: Sequence[Verdict] = ()) -> dict[str, Any]:
    """Return k6's `--summary-export` JSON; what k6 has no place for is under `devnest`."""
    metrics: dict[str, dict[str, Any]] = {
        name: dict(value.values()) for name, value in all_metrics(result).items()
    }
    for verdict in verdicts:
        threshold = verdict.threshold
        if threshold.key not in metrics:
            metrics[threshold.key] = dict(metric(result, threshold.metric, threshold.tags).values())
        # True means failed, as in k6's format.
        metrics[threshold.key].setdefault("thresholds", {})[threshold.condition] = not verdict.ok
    checks = {name: _check(name, passes, fails) for name, (passes, fails) in result.checks.items()}
    root = {"name": "", "path": "", "id": _identity(""), "groups": {}, "checks": checks}
    return {"metrics": metrics, "root_group": root, "devnest": _devnest(result)}


def milliseconds(value: float) -> str:
    """Return a duration as text. The unit is always the same, so that figures can be compared."""
    return f"{_figure(value)}ms"


def _figure(value: float) -> str:
    """Return three digits or more, with no more decimals than they need."""
    return f"{value:,.{2 if value < 100 else 1 if value < 1000 else 0}f}"


def notices(result: Result) -> list[str]:
    """Return the warnings to print with the results: a void, blocked, refused or stopped run."""
    lines = []
    if result.is_void:
        lines.append(
            f"This run is void: a generator used {result.cpu_peak:.0%} of a core in its busiest "
            f"ten seconds, more than {MAX_CPU_SHARE:.0%}, so the durations are partly its own. "
            "Use more --generators, or fewer VUs."
        )
    if result.stall_s > MAX_STALL_S:
        lines.append(
            f"A generator's event loop stood still for {milliseconds(1000 * result.stall_s)}, "
            "which is in what it measured then: the profile does something that blocks, "
            "or the machine is too busy."
        )
    if refused := result.trend(status=429, expected=False).count:
        lines.append(
            f"{refused:,} answers were 429: the target bounds what one address and one account "
            "try at once. A DevNest for crowds and floods is started with --no-limits."
        )
    if overloaded := result.trend(status=503, expected=False).count:
        lines.append(
            f"{overloaded:,} answers were 503: the target had more work than it could do in time, "
            "and refused what would have waited too long. Send less, give it more cores, or let it "
            "hash at a lower --hash-cost."
        )
    if result.dropped:
        due = result.dropped + result.iterations.count + result.interrupted
        lines.append(
            f"{result.dropped:,} of {due:,} iterations were dropped: each was due while every "
            f"virtual user (at most {result.vus_max:,}) was still busy. Either the target is too "
            "slow for this rate, or it needs more --vus."
        )
    lines += _neighbours(result)
    if result.stopped:
        lines.append("This run was stopped before its end.")
    return lines


def _neighbours(result: Result) -> list[str]:
    """Return a warning for each time at which others took CPU time from the run."""
    seen = result.neighbours
    if seen is None:
        return []
    lines = []
    if seen.before is not None and seen.before > MAX_BUSY_SHARE:
        lines.append(
            f"Other programs used {seen.before:.0%} of the cores right before this run, "
            "so its figures may be too low. Stop them and run it again."
        )
    if seen.during is not None and seen.during > MAX_BUSY_SHARE:
        lines.append(
            f"Other programs used {seen.during:.0%} of this machine's cores while the run lasted, "
            "so the durations may be partly the generators' own. Stop them and run it again."
        )
    if seen.stolen > MAX_STOLEN_SHARE:
        lines.append(
            f"The host of this virtual machine kept back {seen.stolen:.0%} of its CPU time while "
            "the run lasted: other machines on the host were busy. Run it again later."
        )
    return lines


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)]) if lines else ""


def _metric_line(result: Result, name: str) -> str:
    return f"{name:.<{_NAME_CHARS}}: {_words(name, metric(result, name))}"


def _words(name: str, value: Metric) -> str:
    match value:
        case TrendMetric():
            return " ".join(
                f"{key}={milliseconds(number)}" for key, number in value.values().items()
            )
        case Counter(count=count) if name.startswith("data_"):
            return f"{_bytes(count)} {_bytes(value.value('rate'))}/s"
        case Counter(count=count):
            return f"{count:,} {value.value('rate'):,.1f}/s"
        case Rate(passes=passes, fails=fails):
            return f"{value.value('rate'):.2%} {passes:,} out of {passes + fails:,}"
        case Gauge(last=last, least=least, most=most):
            return f"{last:g} min={least:g} max={most:g}"
    raise AssertionError(name)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _routes(result: Result) -> str:
    head = [
        "route",
        "requests",
        "req/s",
        "failed",
        "avg ms",
        "med ms",
        "p(90) ms",
        "p(95) ms",
        "p(99) ms",
        "max ms",
        "answers",
    ]
    rows = [head, *(_route(result, name) for name in result.names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _route(result: Result, name: str) -> list[str]:
    trend = result.trend(name)
    failed = result.trend(name, expected=False).count
    durations = [
        trend.avg,
        trend.med,
        *(trend.percentile(percent) for percent in (90, 95, 99)),
        trend.max,
    ]
    answers = " ".join(
        f"{status or 'none'}:{count}" for status, count in result.statuses(name).items()
    )
    per_s = f"{trend.count / result.elapsed_s if result.elapsed_s else 0:.1f}"
    return [name, f"{trend.count:,}", per_s, f"{failed:,}", *map(_figure, durations), answers]


def _failed_checks(result: Result) -> list[str]:
    return [
        f"{name}: {fails:,} of {passes + fails:,}"
        for name, (passes, fails) in result.checks.items()
        if fails
    ]


def _failures(result: Result) -> list[str]:
    lines = [
        f"{name}: {reason} ({count:,})"
        for (name, reason), count in result.errors.most_common(_MAX_ERRORS)
    ]
    left = len(result.errors) - _MAX_ERRORS
    return [*lines, f"and {left} more kinds"] if left > 0 else lines


def _about(result: Result) -> list[str]:
    lines = [
        f"peak {result.peak_requests_per_s:,.1f} req/s in one second; "
        f"{result.elapsed_s:.1f} s in all",
        f"generator: {result.cpu_mean:.0%} of a core (busiest ten seconds {result.cpu_peak:.0%}), "
        f"{result.cpu_ms_per_request:.3f} ms of CPU per request, "
        f"{result.generators} process(es), seed {result.seed}",
    ]
    if result.prepared:
        lines.append(
            "prepared before, not counted: "
            + ", ".join(f"{k} {v:,.1f}" for k, v in result.prepared.items())
        )
    if result.interrupted:
        lines.append(f"{result.interrupted:,} iterations were interrupted at the end")
    return [*lines, *notices(result)]


def _check(name: str, passes: int, fails: int) -> dict[str, Any]:
    path = f"::{name}"
    return {"name": name, "path": path, "id": _identity(path), "passes": passes, "fails": fails}


def _identity(path: str) -> str:
    """Return the id of a check or group: the MD5 of its path, as in k6."""
    return hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()


def _devnest(result: Result) -> dict[str, Any]:
    return {
        "url": result.url,
        "profile": result.profile,
        "seed": result.seed,
        "generators": result.generators,
        "started_at": result.started_at.isoformat(),
        "elapsed_s": result.elapsed_s,
        "stopped": result.stopped,
        "void": result.is_void,
        "others": {
            "before": result.neighbours.before,
            "during": result.neighbours.during,
            "stolen": result.neighbours.stolen,
        }
        if result.neighbours is not None
        else None,
        "peak_requests_per_s": result.peak_requests_per_s,
        "generator_cpu": {
            "mean": result.cpu_mean,
            "peak": result.cpu_peak,
            "ms_per_request": result.cpu_ms_per_request,
        },
        "prepared": result.prepared,
        "interrupted_iterations": result.interrupted,
        "statuses": {
            name: {str(status): count for status, count in result.statuses(name).items()}
            for name in result.names
        },
        "failures": [
            {"name": name, "reason": reason, "count": count}
            for (name, reason), count in result.errors.most_common()
        ],
        "machine": asdict(result.machine),
        "target": {
            "samples": msgspec.to_builtins(result.samples),
            "reason": result.watch.reason if result.watch is not None else "",
        },
        "percentiles": result.trend().curve(),
        "seconds": [asdict(point) for point in result.points],
    }
