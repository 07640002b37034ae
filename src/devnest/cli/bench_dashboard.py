"""What `devnest bench` shows on the live page: the load of the present run, and the runs so far."""

import html
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from devnest.cli.bench_console import ConsoleObserver
from devnest.experiment import HEAD, Conditions, Design, Run, Session, Trouble, compared
from devnest.load import Result
from devnest.load.dashboard import Dashboard, Live
from devnest.load.page import table
from devnest.load.progress import clock
from devnest.load.report import content
from devnest.load.result import Point
from devnest.load.run import OnPrepared, OnSecond

__all__ = ["LiveObserver"]


class LiveObserver(ConsoleObserver):
    """Shows the progress on the live page too.

    Args:
        dashboard: The page. Its button to stop does what Ctrl-C does.
        session: What is measured.
    """

    def __init__(self, dashboard: Dashboard, session: Session) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._session = session
        self._title = f"The experiment on this machine: {session.conditions.profile}"
        self._run = ""
        self._left_s = 0.0
        dashboard.control(_press_ctrl_c)
        self._show("Starting")

    def run_begins(self, design: Design, round_number: int, left: int, left_s: float) -> None:
        super().run_begins(design, round_number, left, left_s)
        self._run, self._left_s = f"{design.title}, run {round_number}", left_s
        self._show(f"{self._run} is starting, about {clock(left_s)} left")

    @contextmanager
    def load_begins(
        self, conditions: Conditions, left_s: float
    ) -> Iterator[tuple[OnPrepared, OnSecond]]:
        with super().load_begins(conditions, left_s) as (on_prepared, on_second):

            def second(result: Result, point: Point) -> None:
                on_second(result, point)
                left = clock(max(0.0, left_s - point.second - 1))
                self._dashboard.update(lambda: self._live(f"{self._run}, {left} left", result))

            yield on_prepared, second

    def run_ended(self, run: Run) -> None:
        super().run_ended(run)
        self._show(f"{self._run} has ended")

    def design_failed(self, trouble: Trouble) -> None:
        super().design_failed(trouble)
        self._show(f"{self._run}: {trouble.kind}")

    def _show(self, phase: str) -> None:
        self._dashboard.show(self._live(phase))

    def _live(self, phase: str, result: Result | None = None) -> Live:
        body, figures = content(result, []) if result is not None else ([], {})
        if result is not None:
            body = [f"<h2>{html.escape(self._run)}</h2>", *body]
        body += [
            f"<p class='notice'>{html.escape(self._session.titles[each.design])}: {each.kind}, "
            f"{html.escape(each.reason)}</p>"
            for each in self._session.troubles
        ]
        if self._session.runs:
            body += ["<h2>Runs so far</h2>", table(HEAD, compared(self._session))]
        return Live(self._title, phase, "".join(body), figures)


def _press_ctrl_c() -> None:
    """Interrupt the main thread at whatever it does, even in a blocking call."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)
