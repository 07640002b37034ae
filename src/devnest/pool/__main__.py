"""``python -m devnest.pool serve --socket PATH``: a shared pool of its own."""

import argparse
import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any

from devnest.pool.errors import PoolError
from devnest.pool.server import PoolServer

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until TERM or INT, then drain; return the exit status."""
    options = vars(_parser().parse_args(arguments))
    options.pop("command")
    path, drain_s = options.pop("socket"), options.pop("drain")
    given = {name: value for name, value in options.items() if value is not None}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a waiting task with a large argument holds a descriptor
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(_serve(path, drain_s, given))
    except (OSError, PoolError) as error:
        print(f"devnest.pool: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _serve(path: str, drain_s: float, options: dict[str, Any]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = PoolServer(path, **options)
    try:
        await server.start()
        print(f"devnest.pool ready on {server.url}", flush=True)  # noqa: T201
        await stop.wait()
    finally:
        await server.close(deadline=drain_s)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devnest.pool", description="A pool shared by one user's processes."
    )
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="run the pool")
    serve.add_argument(
        "--socket", required=True, metavar="PATH", help="in a directory closed to others; made if missing"
    )
    serve.add_argument("--workers", type=int, help="worker processes (default: the CPUs this process may use)")
    serve.add_argument("--min-workers", type=int, help="with --max-workers instead of --workers: keep at least so many")
    serve.add_argument("--max-workers", type=int, help="start more while tasks wait, up to so many")
    serve.add_argument("--max-queue", type=int, help="waiting tasks before others are refused (1000)")
    serve.add_argument("--idle-timeout", type=float, metavar="S", help="before a spare worker goes (10)")
    serve.add_argument("--max-tasks", type=int, help="replace a worker after about so many tasks")
    serve.add_argument("--max-age", type=float, metavar="S", help="replace a worker after about so many seconds")
    serve.add_argument("--max-rss", type=int, metavar="BYTES", help="replace a worker that has grown beyond")
    serve.add_argument("--nice", type=int, help="lower the workers' CPU priority by so much (0)")
    serve.add_argument(
        "--allow",
        action="append",
        metavar="MODULE[:FUNCTION]",
        help="run these only; may be given several times",
    )
    serve.add_argument("--drain", type=float, default=10.0, metavar="S", help="wait so long for tasks at TERM (10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
