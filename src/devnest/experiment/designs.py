"""The designs that are compared: four of DevNest, and the peers of the repository's benchmarks/peers."""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import devnest
from devnest.load import BadPlan

__all__ = ["AFTER", "BEFORE", "DEFAULT_DESIGNS", "REFERENCE", "Design", "choose", "every_design"]

BEFORE, AFTER = "inline", "pool"
REFERENCE = "node-piscina"  # the published "after": what the targets are stated against
START_LIMIT_S = 60.0
INSTALL_LIMIT_S = 900.0  # a peer installs itself at its first start


@dataclass(frozen=True)
class Design:
    """How to start one design.

    A word or value that is `{port}`, `{cost}`, `{processes}`, `{data_dir}` or `{database_url}` is replaced
    at the start.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/readyz"
    needs_database: bool = False
    start_limit_s: float = START_LIMIT_S


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
    # The peers write no line for each request and slow nobody down, so DevNest does not either.
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
_PEER_ENVIRONMENT = {
    "PORT": "{port}",
    "BCRYPT_COST": "{cost}",
    "PROCESSES": "{processes}",
    "DATABASE_URL": "{database_url}",
    "NODE_ENV": "production",
}


def _starter() -> Path | None:
    """benchmarks/peers/start.py of the working directory, else of the clone that DevNest is installed from."""
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
                start_limit_s=INSTALL_LIMIT_S,
            )


def every_design() -> dict[str, Design]:
    """All that can be run from here, by name."""
    start = _starter()
    return {
        design.name: design for design in (*_OWN, *(_peers(start) if start is not None else ()))
    }


def choose(names: str | None, *, peers: bool) -> list[str]:
    """The designs of `a,b,c`, or the four of DevNest; with `peers` all peers too. Raises `BadPlan`."""
    known = every_design()
    if peers and len(known) == len(_OWN):
        raise BadPlan(
            "--peers needs the repository's benchmarks/peers: run it in a clone of DevNest"
        )
    chosen = (
        list(DEFAULT_DESIGNS)
        if names is None
        else [name.strip() for name in names.split(",") if name.strip()]
    )
    for name in chosen:
        if name not in known:
            raise BadPlan(f"no design {name!r}; there are {', '.join(known)}")
    if peers:
        chosen += [name for name in known if name not in DEFAULT_DESIGNS]
    if not chosen:
        raise BadPlan(f"--designs names none; there are {', '.join(known)}")
    return list(dict.fromkeys(chosen))
