"""The commands of an operator: a shared pool's statistics, and its end."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from devnest.pool.client import RemotePool
from devnest.pool.core.stats import Histogram, Stats
from devnest.pool.errors import InvalidTask
from devnest.pool.launcher import socket_directory
from devnest.pool.wire.peer import is_same_user, peer_pid

__all__ = ["run"]

PATIENCE_S = 1.0  # a pool that runs answers sooner
INTERVAL_S = 1.0  # between two tables of `status`
STOP_WAIT_S = 60.0  # for the calls that the pool finishes; its own `--drain` is shorter by default
_CLEAR = "\x1b[H\x1b[2J"  # of a terminal: the cursor goes home, the screen becomes empty


def run(command: str, socket: str | None, *, json: bool = False) -> int:
    """Run `status`, `stats` or `stop` and return the exit status.

    Args:
        command: One of the three.
        socket: The path of the pool's socket; `None` for the only shared pool that runs.
        json: Whether `stats` prints JSON.

    Raises:
        OSError: No pool answers.
        PoolError: Likewise, or several answer and no path is given.
    """
    path = Path(socket).absolute() if socket else _only_pool()
    if command == "stop":
        return _stop(path)
    asyncio.run(_show(path, repeat=command == "status", as_json=json))
    return 0


def _only_pool() -> Path:
    """Return the socket of the shared pool that runs, if there is exactly one."""
    directory = socket_directory()
    found = [path for path in sorted(directory.glob("*.sock")) if _pid_of(path) is not None]
    if not found:
        raise InvalidTask(f"no shared pool runs in {directory}; give --socket for another place")
    if len(found) > 1:
        names = "".join(f"\n  --socket {path}{_origin(path)}" for path in found)
        raise InvalidTask(f"several shared pools run; give one:{names}")
    return found[0]


def _origin(path: Path) -> str:
    """Return where the server at a path was started, to tell it from others."""
    pid = _pid_of(path)
    try:
        return f"  (process {pid}, started in {Path(f'/proc/{pid}/cwd').readlink()})"
    except OSError:  # it has ended, or this is no Linux
        return f"  (process {pid})"


def _pid_of(path: Path) -> int | None:
    """Return the process id of the server at a path, or `None` if none of this user answers."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE_S)
        try:
            probe.connect(str(path))
            probe.recv(64)  # the greeting, as a server logs a client that leaves without it
            return peer_pid(probe) if is_same_user(probe) else None
        except OSError:
            return None


def _stop(path: Path) -> int:
    pid = _pid_of(path)
    if pid is None:
        raise InvalidTask(f"no pool of this user answers at {path}")
    os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + STOP_WAIT_S
    while _is_running(pid):
        if time.monotonic() > give_up_at:
            raise InvalidTask(f"process {pid} finishes its calls still; kill it if it must not")
        time.sleep(0.05)
    sys.stdout.write(f"stopped process {pid}\n")
    return 0


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a zombie has ended, though its parent has not noticed
    try:
        return status.read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return True


async def _show(path: Path, *, repeat: bool, as_json: bool) -> None:
    async with RemotePool(f"unix://{path}", patience=PATIENCE_S) as pool:
        before: Stats | None = None
        while True:
            stats = await pool.stats()
            text = json.dumps(stats.as_dict()) if as_json else _table(path, stats, before)
            sys.stdout.write((_CLEAR if repeat and sys.stdout.isatty() else "") + text + "\n")
            sys.stdout.flush()
            if not repeat:
                return
            before = stats
            await asyncio.sleep(INTERVAL_S)


def _table(path: Path, stats: Stats, before: Stats | None) -> str:
    rate = f", {(stats.done - before.done) / INTERVAL_S:,.0f} in the last second" if before else ""
    rows = {
        "pool": str(path),
        "workers": f"{stats.workers}: {stats.busy} busy, {stats.idle} idle, "
        f"{stats.starting} starting; {stats.utilisation:.0%} busy in the last minute",
        "calls": f"{stats.queued} waiting, {stats.running} running, {stats.done:,} done{rate}",
        "failed": f"{stats.failed:,}; {stats.cancelled:,} cancelled, {stats.retried:,} run again",
        "refused": _counts(stats.refused),
        "restarts": _counts(stats.restarts),
        "batch": f"{stats.mean_batch:.2f} calls on average",
        "wait": _times(stats.wait_last_minute),
        "run": _times(stats.run_last_minute),
    }
    return "\n".join(f"{name:9} {value}" for name, value in rows.items()) + "\n"


def _counts(counts: Mapping[str, int]) -> str:
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return found or "none"


def _times(times: Histogram) -> str:
    if not times.count:
        return "none in the last minute"
    half, most = (f"{times.quantile(share) * 1000:g} ms" for share in (0.5, 0.99))
    return f"half within {half}, 99 of 100 within {most} (last minute)"
