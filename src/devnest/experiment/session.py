"""A session of `devnest bench`: what it measures and the figures of every run, as a JSON file."""

import os
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from devnest import __version__
from devnest.load import BadPlan, Plan, Result, parse_stages
from devnest.load.result import MIN_SECOND_S, Machine
from devnest.load.watch import Sample

__all__ = ["Conditions", "Kind", "Moment", "Route", "Run", "Session", "Trouble"]

FORMAT = 1
# Far more than the runs of a session need; keeps a wrong file from filling the memory.
MAX_FILE_BYTES = 256 << 20
Profile = Literal["experiment", "stress"]
Kind = Literal["skipped", "failed"]


class Conditions(msgspec.Struct, frozen=True):
    """What a session measures. All its runs have the same conditions."""

    profile: Profile
    hash_cost: int
    runs: int
    designs: list[str]
    # They replace the stages of the profile, in the form of `--stages`.
    stages: str | None = None
    demo: bool = False
    # Only in files of an earlier version: whether a run had 10 virtual users for two seconds.
    quick: bool = False

    @property
    def command(self) -> str:
        """The command that measures the same once more, as a new session with default files."""
        if self.demo:
            return "devnest bench --demo"
        words = [
            "devnest bench",
            f"--profile {self.profile}",
            f"--hash-cost {self.hash_cost}",
            f"--runs {self.runs}",
            f"--designs {','.join(self.designs)}",
        ]
        return " ".join([*words, *([f"--stages {self.stages}"] if self.stages else [])])

    @property
    def plan(self) -> Plan:
        """The load of one run, on a target that does not exist."""
        stages = parse_stages(self.stages) if self.stages else None
        return Plan("http://127.0.0.1:1", self.profile, stages=stages)

    @property
    def load_s(self) -> float:
        """How long the load of one run lasts, in seconds, without the last responses."""
        scenarios = self.plan.checked().scenarios("127.0.0.1")
        return max(scenario.duration_s for scenario in scenarios)


class Moment(msgspec.Struct, frozen=True):
    """The figures of one second of a run."""

    second: int
    vus: int
    requests_per_s: float
    p95_ms: float
    failed: int


class Route(msgspec.Struct, frozen=True):
    """The figures of one route in one run."""

    requests: int
    failed: int
    med_ms: float
    p95_ms: float


class Run(msgspec.Struct, frozen=True):
    """The figures of one run of one design."""

    design: str
    round: int
    started_at: str
    elapsed_s: float
    requests: int
    failed: int
    failed_checks: int
    requests_per_s: float
    peak_requests_per_s: float
    avg_ms: float
    med_ms: float
    p95_ms: float
    p99_ms: float
    routes: dict[str, Route]
    # Route, reason, number.
    failures: list[tuple[str, str, int]]
    # Share of a core, over the run and in its busiest ten seconds.
    generator_cpu: float
    generator_cpu_peak: float
    generator_ms_per_request: float
    void: bool
    # Share of all cores that other programs used before the start; None if unknown.
    busy_before: float | None
    seed: int
    prepared: dict[str, float]
    seconds: list[Moment]
    # Percents of the requests, and the milliseconds within which they were answered.
    percentiles: list[tuple[float, float]] = []
    # What the design did meanwhile, if it is DevNest.
    samples: list[Sample] = []

    @classmethod
    def of(
        cls, design: str, round_number: int, result: Result, busy_before: float | None = None
    ) -> "Run":
        """Return the figures of a finished load run.

        Args:
            design: The name of the design.
            round_number: Which of the design's runs this is, from 1.
            result: What the load generator measured.
            busy_before: Share of all cores that other programs used before, if known.
        """
        trend = result.trend()
        routes = {}
        for name in result.names:
            part = result.trend(name)
            failed = result.trend(name, expected=False).count
            routes[name] = Route(part.count, failed, part.med, part.percentile(95))
        return cls(
            design=design,
            round=round_number,
            started_at=result.started_at.isoformat(timespec="seconds"),
            elapsed_s=result.elapsed_s,
            requests=result.requests,
            failed=result.failed,
            failed_checks=sum(fails for _, fails in result.checks.values()),
            requests_per_s=result.requests_per_s,
            peak_requests_per_s=result.peak_requests_per_s,
            avg_ms=trend.avg,
            med_ms=trend.med,
            p95_ms=trend.percentile(95),
            p99_ms=trend.percentile(99),
            routes=routes,
            failures=[
                (name, reason, count) for (name, reason), count in result.errors.most_common()
            ],
            generator_cpu=result.cpu_mean,
            generator_cpu_peak=result.cpu_peak,
            generator_ms_per_request=result.cpu_ms_per_request,
            void=result.is_void,
            busy_before=busy_before,
            seed=result.seed,
            prepared=result.prepared,
            seconds=[
                Moment(point.second, point.vus, point.requests_per_s, point.p95_ms, point.failed)
                for point in result.points
                if point.wall_s > MIN_SECOND_S
            ],
            percentiles=trend.curve(),
            samples=result.samples,
        )

    def p95_of(self, route: str) -> float | None:
        """Return the 95th percentile of a route in milliseconds, or None without a request."""
        return self.routes[route].p95_ms if route in self.routes else None


class Trouble(msgspec.Struct, frozen=True):
    """Why some or all runs of a design are missing."""

    design: str
    kind: Kind
    reason: str
    log: list[str]


class Session(msgspec.Struct):
    """The runs measured under the same conditions."""

    conditions: Conditions
    # Titles of the designs: a file can be shown where a peer is not installed.
    titles: dict[str, str]
    machine: Machine
    devnest: str = __version__
    node: str = ""
    format: int = FORMAT
    runs: list[Run] = []
    troubles: list[Trouble] = []

    @classmethod
    def load(cls, path: Path) -> "Session":
        """Read a session from a file.

        Args:
            path: The file.

        Raises:
            BadPlan: The file cannot be read or holds no session of this version.
        """
        try:
            with path.open("rb") as file:
                session = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=cls)
        except OSError as error:
            raise BadPlan(f"cannot read {path}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise BadPlan(f"{path} holds no session of devnest bench: {error}") from None
        if session.format != FORMAT:
            raise BadPlan(
                f"{path} was written by another version of devnest bench (format {session.format})"
            )
        try:
            session.conditions.plan.checked()
        except BadPlan as error:
            raise BadPlan(f"{path} holds no session of devnest bench: {error}") from None
        if (
            not {*session.conditions.designs, *(run.design for run in session.runs)}
            <= session.titles.keys()
        ):
            raise BadPlan(f"{path} holds no session of devnest bench: a design has no title")
        return session

    def save(self, path: Path) -> None:
        """Write the session to a file, which is replaced in one step.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written; an older one is unchanged.
        """
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            new.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    @property
    def pending(self) -> list[tuple[int, str]]:
        """The runs still to do, as round and design: all designs once, then all again."""
        done = {(run.round, run.design) for run in self.runs if not run.void}
        rounds = range(1, self.conditions.runs + 1)
        return [
            (number, design)
            for number in rounds
            for design in self.conditions.designs
            if (number, design) not in done
        ]

    def add(self, run: Run) -> None:
        """Add a run; it replaces the design's earlier run of the same round."""
        same = (run.round, run.design)
        self.runs = [other for other in self.runs if (other.round, other.design) != same] + [run]

    def valid_runs(self, design: str) -> list[Run]:
        """Return the runs of a design that are not void, slowest first."""
        return sorted(
            (run for run in self.runs if run.design == design and not run.void),
            key=lambda run: run.requests_per_s,
        )

    def median_run(self, design: str) -> Run | None:
        """Return the run with the median rate; of an even number of runs, the lower one."""
        runs = self.valid_runs(design)
        return runs[(len(runs) - 1) // 2] if runs else None

    def median_of(self, design: str, figure: str) -> float | None:
        """Return the median of a figure over the valid runs of a design.

        Args:
            design: The name of the design.
            figure: The name of an attribute of `Run`.

        Returns:
            The median in the figure's unit, or None if no run is valid.
        """
        values = [getattr(run, figure) for run in self.valid_runs(design)]
        return median(values) if values else None

    def median_p95_of(self, design: str, route: str) -> float | None:
        """Return the median of a route's 95th percentile over the valid runs of a design.

        Args:
            design: The name of the design.
            route: The name of the route.

        Returns:
            Milliseconds, or None if no valid run has a request of that route.
        """
        values = [
            value for run in self.valid_runs(design) if (value := run.p95_of(route)) is not None
        ]
        return median(values) if values else None
