"""Shows a run while it goes on: a live table on a terminal, a line every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from devnest.load.result import MAX_CPU_SHARE, MIN_SECOND_S, Point, Result
from devnest.load.summary import milliseconds

__all__ = ["Progress", "clock"]

_LINE_INTERVAL_S = 5
_BAR_CHARS = 30


class Progress:
    """A context manager that shows a run on a stream.

    Args:
        stream: Where it is shown.
        duration_s: How long the run is to last.
        later_s: An estimate of the seconds that other runs take after it.
    """

    def __init__(self, stream: TextIO, duration_s: float, later_s: float = 0.0) -> None:
        self._console = Console(file=stream)
        self._duration_s = duration_s
        self._later_s = later_s
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._begin = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def prepared(self, result: Result) -> None:
        """Show that the measurement begins, and what was prepared."""
        self._begin = time.monotonic()
        if result.prepared:
            self.say(
                "prepared: "
                + ", ".join(f"{name} {value:,.1f}" for name, value in result.prepared.items())
            )

    def second(self, result: Result, point: Point) -> None:
        """Show the second that has passed."""
        if self._console.is_terminal:
            self._live.update(self._table(result, point), refresh=True)
        elif (point.second + 1) % _LINE_INTERVAL_S == 0 and point.wall_s > MIN_SECOND_S:
            self.say(
                f"{point.second + 1:5d} s  {point.vus:6,} VUs  {point.requests_per_s:8,.1f} req/s  "
                f"p95 {_p95(point):>8}  failed {result.failed:,}  {self._left(point.second + 1)} left"
            )

    def _left(self, elapsed_s: float) -> str:
        return clock(max(0.0, self._duration_s - elapsed_s) + self._later_s)

    def _table(self, result: Result, point: Point) -> Table:
        elapsed_s = min(self._duration_s, time.monotonic() - self._begin)
        done = min(1.0, elapsed_s / self._duration_s)
        bar = "━" * round(done * _BAR_CHARS)
        busy = "red" if point.cpu > MAX_CPU_SHARE else "default"
        table = Table(box=None, pad_edge=False, title_justify="left", title_style="")
        rest = "━" * (_BAR_CHARS - len(bar))
        table.title = f"[green]{bar}[/][dim]{rest}[/] {self._left(elapsed_s)} left"
        for heading in ("VUs", "req/s", "p95", "requests", "failed", "dropped", "generator"):
            table.add_column(heading, justify="right", min_width=8)
        table.add_row(
            f"{point.vus:,}",
            f"{point.requests_per_s:,.1f}",
            _p95(point),
            f"{result.requests:,}",
            f"[{'red' if result.failed else 'default'}]{result.failed:,}[/]",
            f"{result.dropped:,}",
            f"[{busy}]{point.cpu:.0%} CPU[/]",
        )
        return table


def _p95(point: Point) -> str:
    return milliseconds(point.p95_ms) if point.p95_ms else "-"  # 0 is a second without an answer


def clock(seconds: float) -> str:
    """Return a duration in words for a person: `45 s`, `3 min 20 s` or `12 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{round(whole / 60)} min"
