"""What is shown while a run goes on: a live table on a terminal, a line every few seconds elsewhere."""

import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from devnest.load.result import CPU_LIMIT, SHORTEST_S, Point, Result
from devnest.load.summary import milliseconds

__all__ = ["Progress"]

_LINE_EVERY_S = 5
_BAR = 30


class Progress:
    """Shows a run of `duration_s` on `stream`; used as a context manager."""

    def __init__(self, stream: TextIO, duration_s: float) -> None:
        self._console = Console(file=stream)
        self._duration_s = duration_s
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
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def prepared(self, result: Result) -> None:
        """The clock starts."""
        self._begin = time.monotonic()
        if result.prepared:
            self.say(
                "prepared: "
                + ", ".join(f"{name} {value:,.1f}" for name, value in result.prepared.items())
            )

    def second(self, result: Result, point: Point) -> None:
        """One second has passed."""
        if self._console.is_terminal:
            self._live.update(self._table(result, point), refresh=True)
        elif (point.second + 1) % _LINE_EVERY_S == 0 and point.wall_s > SHORTEST_S:
            self.say(
                f"{point.second + 1:5d}s  {point.vus:6,} VUs  {point.requests_per_s:8,.1f} req/s  "
                f"p95 {_p95(point):>8}  failed {result.failed:,}"
            )

    def _table(self, result: Result, point: Point) -> Table:
        elapsed_s = min(self._duration_s, time.monotonic() - self._begin)
        done = min(1.0, elapsed_s / self._duration_s)
        bar = "━" * round(done * _BAR)
        busy = "red" if point.cpu > CPU_LIMIT else "default"
        table = Table(box=None, pad_edge=False, title_justify="left", title_style="")
        table.title = f"[green]{bar}[/][dim]{'━' * (_BAR - len(bar))}[/] {elapsed_s:.0f}s of {self._duration_s:.0f}s"
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
    return (
        milliseconds(point.p95_ms) if point.p95_ms else "-"
    )  # in a second without an answer there is none
