"""A session: what was asked for, and every run's figures; one JSON file that grows by a run."""

import os
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from devnest import __version__
from devnest.load import BadPlan, Result
from devnest.load.result import MIN_SECOND_S, Machine

__all__ = ["Conditions", "Kind", "Moment", "Route", "Run", "Session", "Trouble"]

FORMAT = 1
FILE_BYTES_MAX = 256 << 20
Profile = Literal["experiment", "stress"]
Kind = Literal["skipped", "failed"]


class Conditions(msgspec.Struct, frozen=True):
    """What a session measures; the same for all its runs."""

    profile: Profile
    hash_cost: int
    runs: int
    designs: list[str]
    quick: bool

    @property
    def command(self) -> str:
        """The command that measures it again."""
        words = [
            "devnest bench",
            f"--profile {self.profile}",
            f"--hash-cost {self.hash_cost}",
            f"--runs {self.runs}",
        ]
        return " ".join(
            [*words, f"--designs {','.join(self.designs)}", *(["--quick"] if self.quick else [])]
        )


class Moment(msgspec.Struct, frozen=True):
    """One second of a run."""

    second: int
    vus: int
    requests_per_s: float
    p95_ms: float
    failed: int


class Route(msgspec.Struct, frozen=True):
    """One route over a whole run."""

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
    failures: list[tuple[str, str, int]]  # route, reason, times
    generator_cpu: float  # share of a core over the run
    generator_cpu_peak: float  # and in its busiest ten seconds
    generator_ms_per_request: float
    void: bool
    busy_before: (
        float | None
    )  # share of the machine's cores that others used before the start; None: not known
    seed: int
    prepared: dict[str, float]
    seconds: list[Moment]

    @classmethod
    def of(
        cls, design: str, round_number: int, result: Result, busy_before: float | None = None
    ) -> "Run":
        """What a finished load run measured."""
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
        )

    def p95_of(self, route: str) -> float | None:
        """The 95th percentile of one route, in milliseconds; None where it was never asked."""
        return self.routes[route].p95_ms if route in self.routes else None


class Trouble(msgspec.Struct, frozen=True):
    """Why a design has no run, or not all of them."""

    design: str
    kind: Kind
    reason: str
    log: list[str]


class Session(msgspec.Struct):
    """Everything measured under some conditions; `add` grows it, `save` and `load` keep it."""

    conditions: Conditions
    titles: dict[str, str]  # of the designs, so that the file can be shown where a peer is not
    machine: Machine
    devnest: str = __version__
    node: str = ""
    format: int = FORMAT
    runs: list[Run] = []
    troubles: list[Trouble] = []

    @classmethod
    def load(cls, path: Path) -> "Session":
        """The session of a file; raises `BadPlan` where it holds none."""
        try:
            with path.open("rb") as file:
                session = msgspec.json.decode(file.read(FILE_BYTES_MAX), type=cls)
        except OSError as error:
            raise BadPlan(f"cannot read {path}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise BadPlan(f"{path} holds no session of devnest bench: {error}") from None
        if session.format != FORMAT:
            raise BadPlan(
                f"{path} was written by another version of devnest bench (format {session.format})"
            )
        if (
            not {*session.conditions.designs, *(run.design for run in session.runs)}
            <= session.titles.keys()
        ):
            raise BadPlan(f"{path} holds no session of devnest bench: a design has no title")
        return session

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
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
        """Keep a run; a void one of the same round gives way."""
        same = (run.round, run.design)
        self.runs = [other for other in self.runs if (other.round, other.design) != same] + [run]

    def sound(self, design: str) -> list[Run]:
        """The runs of a design that count, slowest first."""
        return sorted(
            (run for run in self.runs if run.design == design and not run.void),
            key=lambda run: run.requests_per_s,
        )

    def middle(self, design: str) -> Run | None:
        """The run with the median rate (of an even number, the lower one)."""
        runs = self.sound(design)
        return runs[(len(runs) - 1) // 2] if runs else None

    def typical(self, design: str, figure: str) -> float | None:
        """The median over a design's runs of one of their numbers."""
        values = [getattr(run, figure) for run in self.sound(design)]
        return median(values) if values else None

    def typical_p95(self, design: str, route: str) -> float | None:
        """The median over a design's runs of a route's 95th percentile."""
        values = [value for run in self.sound(design) if (value := run.p95_of(route)) is not None]
        return median(values) if values else None
