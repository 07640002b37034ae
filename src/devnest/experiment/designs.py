"""The designs that are compared: four of DevNest, and the peers in benchmarks/peers."""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import devnest
from devnest.experiment.session import Conditions
from devnest.load import BadPlan

__all__ = [
    "AFTER",
    "BEFORE",
    "DEFAULT_DESIGNS",
    "DEMO",
    "REFERENCE",
    "Design",
    "choose",
    "every_design",
]

BEFORE, AFTER = "inline", "pool"
# The published "after"; the targets are ratios to it.
REFERENCE = "node-piscina"
MAX_START_S = 60.0
# A peer installs itself at its first start.
MAX_INSTALL_S = 900.0


@dataclass(frozen=True)
class Design:
    """How to start one design.

    An argument of `command` or a value of `environment` that is `{port}`, `{cost}`, `{processes}`,
    `{data_dir}` or `{database_url}` is replaced at the start.

    Attributes:
        name: What `--designs` calls it.
        title: Its name in tables.
        command: The command that starts it.
        environment: Additional environment variables.
        ready: The path that answers 200 once the design is ready.
        needs_database: Whether the guard starts a PostgreSQL for it.
        max_start_s: How long it may take to be ready, in seconds.
        marker: A file that its installation writes, if it installs itself at its first start.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/readyz"
    needs_database: bool = False
    max_start_s: float = MAX_START_S
    marker: Path | None = None

    @property
    def installs_first(self) -> bool:
        """Whether its next start installs it, which takes minutes."""
        return self.marker is not None and not self.marker.exists()


def _devnest(name: str, title: str, *options: str, **environment: str) -> Design:
    serve = (
        sys.executable,
        "-P",
        "-m",
        "devnest",
        "serve",
        "--port",
        "{port}",
        "--data-dir",
        "{data_dir}",
    )
    # The peers have neither a request log nor rate limits, so DevNest runs without them.
    quiet = ("--log-level", "warning", "--no-limits")
    return Design(
        name, f"DevNest, {title}", (*serve, "--hash-cost", "{cost}", *quiet, *options), environment
    )


_OWN = (
    _devnest(BEFORE, "inline, one process (before)", "--hashing", "inline", "--processes", "1"),
    _devnest("thread", "threads", "--hashing", "thread"),
    _devnest("pool-one-lane", "pool without lanes", "--hashing", "pool", DEVNEST_LANES="1"),
    _devnest(AFTER, "pool with lanes (after)", "--hashing", "pool"),
)
DEFAULT_DESIGNS = tuple(design.name for design in _OWN)
# Before and after, with the load of the experiment in three quarters of its time.
DEMO = Conditions("experiment", 10, 1, [BEFORE, AFTER], stages="6s:50,18s:100,6s:0", demo=True)
_PEER_ENVIRONMENT = {
    "PORT": "{port}",
    "BCRYPT_COST": "{cost}",
    "PROCESSES": "{processes}",
    "DATABASE_URL": "{database_url}",
    "NODE_ENV": "production",
}


def _starter() -> Path | None:
    """Find benchmarks/peers/start.py in the working directory or in DevNest's own clone."""
    roots = (Path.cwd(), Path(devnest.__file__).resolve().parents[2])
    return next(
        (path for root in roots if (path := root / "benchmarks" / "peers" / "start.py").is_file()),
        None,
    )


def _peers(start: Path) -> Iterable[Design]:
    for path in sorted(start.parent.glob("*/peer.toml")):
        peer = tomllib.loads(path.read_text(encoding="utf-8"))
        for variant, what in peer["variants"].items():
            yield Design(
                f"{path.parent.name}-{variant}",
                f"{peer['title']}, {what['title']}",
                (sys.executable, str(start), path.parent.name, variant),
                _PEER_ENVIRONMENT,
                peer["ready"],
                needs_database=True,
                max_start_s=MAX_INSTALL_S,
                marker=path.parent / ".installed",
            )


def every_design() -> dict[str, Design]:
    """Return the designs that can run here, by name: DevNest's own, and the peers in a clone."""
    start = _starter()
    return {
        design.name: design for design in (*_OWN, *(_peers(start) if start is not None else ()))
    }


def choose(names: str | None, *, peers: bool) -> list[str]:
    """Return the names of the designs to measure, each once.

    Args:
        names: Names separated by commas, or None for the four designs of DevNest.
        peers: Whether to add all peers.

    Raises:
        BadPlan: A name is unknown, there is no name, or the peers are not available.
    """
    known = every_design()
    if peers and len(known) == len(_OWN):
        raise BadPlan("--peers needs benchmarks/peers: run it in a clone of DevNest's repository")
    chosen = (
        list(DEFAULT_DESIGNS)
        if names is None
        else [name.strip() for name in names.split(",") if name.strip()]
    )
    for name in chosen:
        if name not in known:
            raise BadPlan(f"unknown design {name!r}; the designs are {', '.join(known)}")
    if peers:
        chosen += [name for name in known if name not in DEFAULT_DESIGNS]
    if not chosen:
        raise BadPlan(f"--designs names no design; the designs are {', '.join(known)}")
    return list(dict.fromkeys(chosen))
