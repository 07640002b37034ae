"""The options `--dashboard` and `--dashboard-address`, and what the live page shows of a load."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from devnest.addresses import host_and_port
from devnest.load import BadPlan, Plan, Result, Scenario
from devnest.load.dashboard import Dashboard, Live
from devnest.load.limits import need_descriptors
from devnest.load.progress import clock
from devnest.load.report import content
from devnest.load.result import Point
from devnest.load.thresholds import Threshold

__all__ = ["DashboardAddress", "DashboardOption", "LoadView", "finish", "opened"]

_ADDRESS = "127.0.0.1:8089"

DashboardOption = Annotated[
    bool,
    typer.Option(
        "--dashboard",
        help="Serve a live page of the run, with buttons. At the end it is the report, for as "
        "long as the page is open.",
    ),
]
DashboardAddress = Annotated[
    str | None,
    typer.Option(
        help="Where the live page is, as HOST:PORT; port 0 takes a free one. Whoever reaches the "
        "address can watch and stop the run.",
        show_default=_ADDRESS,
    ),
]


@contextmanager
def opened(wanted: bool, address: str | None) -> Iterator[Dashboard | None]:
    """Serve the live page in a `with` block, or give None where it is not wanted.

    Raises:
        BadPlan: The address cannot be used.
    """
    if not wanted:
        if address is not None:
            raise BadPlan("--dashboard-address needs --dashboard")
        yield None
        return
    try:
        host, port = host_and_port(address or _ADDRESS)
    except ValueError as error:
        raise BadPlan(f"--dashboard-address: {error}") from None
    with Dashboard(host, port) as dashboard:
        sys.stderr.write(f"dashboard: {dashboard.url}\n")
        yield dashboard


def finish(dashboard: Dashboard, report: str) -> None:
    """Show the report, and wait while somebody reads it."""
    dashboard.finish(report)
    if dashboard.is_read:
        sys.stderr.write(
            f"the report is at {dashboard.url} until the page is closed; Ctrl-C ends it at once\n"
        )
        dashboard.linger()


class LoadView:
    """Shows one run of `devnest load` on the live page.

    Args:
        dashboard: The page.
        plan: The run.
        thresholds: What it has to meet.
    """

    def __init__(self, dashboard: Dashboard, plan: Plan, thresholds: Sequence[Threshold]) -> None:
        self._dashboard = dashboard
        self._thresholds = thresholds
        self._generators = plan.generators
        self._scenarios = plan.checked().scenarios("")
        self._duration_s = max(scenario.duration_s for scenario in self._scenarios)
        self._title = f"Load on {plan.url}"
        dashboard.show(Live(self._title, "Preparing"))

    def control(self, stop: asyncio.Event, vus: "asyncio.Queue[int]") -> None:
        """Connect the buttons with a run on this event loop."""
        loop = asyncio.get_running_loop()

        def change(number: int) -> None:
            need_descriptors(number, self._generators, may_spread=False)
            loop.call_soon_threadsafe(vus.put_nowait, number)

        self._dashboard.control(
            lambda: loop.call_soon_threadsafe(stop.set),
            change if _is_closed(self._scenarios) else None,
        )

    def release(self) -> None:
        """Disconnect the buttons, before the event loop ends."""
        self._dashboard.control(None)

    def second(self, result: Result, point: Point) -> None:
        """Show the second that has passed."""
        self._dashboard.update(lambda: self._live(result, point))

    def _live(self, result: Result, point: Point) -> Live:
        elapsed_s = point.second + 1
        left = clock(max(0.0, self._duration_s - elapsed_s))
        body, figures = content(result, [each.judge(result) for each in self._thresholds])
        vus = point.vus if _is_closed(self._scenarios) else None
        phase = f"{clock(elapsed_s)} of {clock(self._duration_s)}, {left} left"
        return Live(self._title, phase, "".join(body), figures, vus)


def _is_closed(scenarios: Sequence[Scenario]) -> bool:
    return all(scenario.rate is None for scenario in scenarios)
