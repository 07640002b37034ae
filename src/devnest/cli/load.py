"""`devnest load`: drives a running DevNest, and reports how it responded."""

import asyncio
import math
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from devnest.cli.dashboard import DashboardAddress, DashboardOption, LoadView, finish, opened
from devnest.cli.files import refuse_unwritable
from devnest.load import BadPlan, LoadError, Plan, Result, constant, parse_stages, run
from devnest.load.exporter import Exporter
from devnest.load.outputs import Output, OutputSpec, opened_outputs, parse_output
from devnest.load.progress import Progress
from devnest.load.report import report as html_report
from devnest.load.result import Point
from devnest.load.schedule import checked_rate, parse_duration
from devnest.load.summary import exported, summary
from devnest.load.thresholds import Verdict, parse_threshold

__all__ = ["load"]

_FAILED, _BAD_OPTION, _THRESHOLD_FAILED, _STOPPED = 1, 2, 99, 130
# With --rate and without --vus, this many virtual users are ready for each iteration per second,
# which is enough while a response takes no longer than a second; and no fewer than MIN_READY_VUS.
_READY_VUS_PER_RATE = 1.0
_MIN_READY_VUS = 10


def load(
    url: Annotated[
        str, typer.Argument(help="The running DevNest, such as http://127.0.0.1:8000 or https://…")
    ],
    profile: Annotated[
        str,
        typer.Option(
            help="What the virtual users do: experiment, stress, flood, or path.py:Class for a "
            "profile of your own.",
        ),
    ] = "experiment",
    vus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of virtual users, who all start at once. Needs --duration."
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(help="How long the run takes, such as 30s or 1m30s. Needs --vus or --rate."),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            help="Ramps of virtual users, as DURATION:VUS,…: 10s:50,20s:100,10s:0. Replaces "
            "--vus and --duration.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Iterations to begin per second, however fast the server is (open model). Each "
            "is timed from when it was due. Needs --duration.",
        ),
    ] = None,
    generators: Annotated[
        int, typer.Option(help="Number of processes that share the virtual users.")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seed of all random choices.", show_default="a new one for each run"
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="How long a request may take, such as 500ms or 60s.")
    ] = "60s",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting of the profile, such as think_s=0.5. May be repeated."
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with status 99 unless this holds, in k6's syntax: "
            "'http_req_duration{name:login}: p(95)<500'. May be repeated.",
        ),
    ] = None,
    summary_export: Annotated[
        Path | None, typer.Option(help="Write the figures to this JSON file, in k6's format.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report with charts to this HTML file.")
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            help="Give every sample away while the run lasts: csv=FILE or json=FILE, in k6's "
            "formats, or prometheus=HOST:PORT, an endpoint with the running totals. May be "
            "repeated.",
        ),
    ] = None,
    metrics_url: Annotated[
        str | None,
        typer.Option(
            help="Where the target has its metrics, such as the address of --management.",
            show_default="/metrics of the target",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept any TLS certificate, without verification.")
    ] = False,
    dashboard: DashboardOption = False,
    dashboard_address: DashboardAddress = None,
) -> None:
    """Drive a running DevNest with virtual users, and report how it responded.

    Exit status: 0 success, 1 the run or its files failed, 2 a wrong option, 99 a threshold failed,
    130 stopped by Ctrl-C or on the dashboard.
    """
    try:
        thresholds = [parse_threshold(text) for text in threshold or []]
        outs = [parse_output(text) for text in out or []]
        _check_files(summary_export, report, outs)
        plan = _plan(url, profile, generators, timeout, insecure, seed, set_ or [])
        plan = replace(plan, metrics_url=metrics_url or "")
        plan = _scheduled(plan, vus=vus, duration=duration, stages=stages, rate=rate)
        with opened(dashboard, dashboard_address) as live:
            view = LoadView(live, plan, thresholds) if live is not None else None
            result, outputs = uvloop.run(_run(plan, outs, view))
            verdicts = [condition.judge(result) for condition in thresholds]
            typer.echo(summary(result, verdicts), nl=False)
            written = _write(result, verdicts, summary_export, report)
            for failure in filter(None, (output.failure for output in outputs)):
                written = False
                sys.stderr.write(f"devnest: {failure}\n")
            if live is not None:
                finish(live, html_report(result, verdicts, _command()))
    except LoadError as error:
        sys.stderr.write(f"devnest: {error}\n")
        raise typer.Exit(_BAD_OPTION if isinstance(error, BadPlan) else _FAILED) from None
    raise typer.Exit(_status(result, verdicts, written))


def _check_files(
    summary_export: Path | None, report: Path | None, outs: Sequence[OutputSpec]
) -> None:
    """Raise `BadPlan` where a file cannot be written, or would be written twice."""
    named = [("--summary-export", summary_export), ("--report", report)]
    named += [("--out", spec.path) for spec in outs]
    seen: dict[Path, str] = {}
    for option, path in named:
        if path is not None:
            if (other := seen.get(path.resolve())) is not None:
                raise BadPlan(f"{other} and {option} name the same file: {path}")
            seen[path.resolve()] = option
            refuse_unwritable(path)


def _plan(
    url: str,
    profile: str,
    generators: int,
    timeout: str,
    insecure: bool,
    seed: int | None,
    settings: Sequence[str],
) -> Plan:
    pairs = [text.partition("=") for text in settings]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise BadPlan(f"not a setting: {wrong[0]!r} (write --set name=value)")
    plan = Plan(
        url,
        profile,
        generators=generators,
        timeout_s=parse_duration(timeout),
        insecure=insecure,
        settings={name: value for name, _, value in pairs},
    )
    return plan if seed is None else replace(plan, seed=seed)


def _scheduled(
    plan: Plan, *, vus: int | None, duration: str | None, stages: str | None, rate: float | None
) -> Plan:
    """Return the plan with its schedule; raises `BadPlan` if the options contradict each other."""
    if stages is not None:
        if vus is not None or duration is not None or rate is not None:
            raise BadPlan("--stages says it all: leave out --vus, --duration and --rate")
        return replace(plan, stages=parse_stages(stages))
    if rate is not None:
        if duration is None:
            raise BadPlan("--rate needs --duration")
        ready = vus or max(_MIN_READY_VUS, math.ceil(checked_rate(rate) * _READY_VUS_PER_RATE))
        return replace(plan, stages=constant(ready, parse_duration(duration)), rate=rate)
    if (vus is None) != (duration is None):
        raise BadPlan("--vus and --duration go together")
    return (
        plan
        if vus is None or duration is None
        else replace(plan, stages=constant(vus, parse_duration(duration)))
    )


async def _run(
    plan: Plan, outs: Sequence[OutputSpec], view: LoadView | None
) -> tuple[Result, list[Output]]:
    """Run the plan and show its progress. The first Ctrl-C ends it, the second without figures."""
    scenarios = plan.checked().scenarios("")
    stop = asyncio.Event()
    vus: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    progress = Progress(sys.stderr, max(scenario.duration_s for scenario in scenarios))

    async with opened_outputs(outs) as outputs:
        for output in outputs:
            if isinstance(output, Exporter):
                progress.say(f"the totals of this run, for Prometheus: {output.url}")
        if view is not None:
            view.control(stop, vus)
        with progress:
            try:
                result = await run(
                    plan,
                    on_prepared=progress.prepared,
                    on_second=_both(progress, view),
                    stop=stop,
                    outputs=outputs,
                    vus=vus,
                )
            except asyncio.CancelledError:
                raise LoadError("stopped at once, without figures") from None
            finally:
                if view is not None:
                    view.release()
    return result, outputs


def _both(progress: Progress, view: LoadView | None) -> Callable[[Result, Point], None]:
    def second(result: Result, point: Point) -> None:
        progress.second(result, point)
        if view is not None:
            view.second(result, point)

    return second


def _write(
    result: Result, verdicts: Sequence[Verdict], summary_export: Path | None, report: Path | None
) -> bool:
    """Write the requested files, and return whether all could be written."""
    contents: dict[Path, bytes] = {}
    if summary_export is not None:
        exported_json = msgspec.json.encode(exported(result, verdicts))
        contents[summary_export] = msgspec.json.format(exported_json, indent=4) + b"\n"
    if report is not None:
        contents[report] = html_report(result, verdicts, _command()).encode()
    failed = False
    for path, content in contents.items():
        try:
            path.write_bytes(content)
        except OSError as error:
            failed = True
            sys.stderr.write(f"devnest: cannot write {path}: {error.strerror}\n")
    return not failed


def _command() -> str:
    return shlex.join(["devnest", *sys.argv[1:]])


def _status(result: Result, verdicts: Sequence[Verdict], written: bool) -> int:
    if result.stopped:
        return _STOPPED
    if not written:
        return _FAILED
    return 0 if all(verdict.ok for verdict in verdicts) else _THRESHOLD_FAILED
