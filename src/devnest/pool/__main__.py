"""`python -m devnest.pool`: runs a shared pool, shows its statistics, and stops it."""

import argparse
import asyncio
import contextlib
import io
import logging
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from devnest.pool import console
from devnest.pool.errors import PoolError
from devnest.pool.server import PoolServer

__all__ = ["main"]

# Log lines that wait while nobody reads standard error, about a megabyte. More are dropped.
MAX_WAITING_LINES = 10_000
# Interval of the checks whether clients, the parent and the log's size allow the server to go on.
CHECK_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of these arguments; return the exit status."""
    _open_standard_streams()
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    if command == "serve":
        return _run_server(options)
    try:
        return console.run(command, **options)
    except (OSError, PoolError) as error:
        _write(2, f"devnest.pool: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run_server(options: dict[str, Any]) -> int:
    """Serve until TERM or INT, or until nobody needs the server; then drain."""
    path, drain_s = options.pop("socket"), options.pop("drain")
    ends = {name: options.pop(name) for name in ("linger", "with_parent", "max_log")}
    given = {name: value for name, value in options.items() if value is not None}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Raise the limit of open files: each waiting task with a large argument holds a descriptor.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger().addHandler(_BackgroundLog())
    try:
        asyncio.run(_serve(path, drain_s, given, **ends))
    except (OSError, PoolError) as error:
        _write(2, f"devnest.pool: {error}")
        return 1
    return 0


def _open_standard_streams() -> None:
    """Open `/dev/null` for each closed standard stream, or a socket would get its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # `open` returns the lowest free number, which is `fd`.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write(fd: int, line: str) -> None:
    """Write a line, or drop it if it cannot be written."""
    with contextlib.suppress(OSError):
        os.write(fd, f"{line}\n".encode(errors="backslashreplace"))


class _BackgroundLog(logging.Handler):
    """Writes log lines to standard error in a thread, so that the event loop never waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(MAX_WAITING_LINES)
        threading.Thread(target=self._serve, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(self.format(record))

    def _serve(self) -> None:
        # Block SIGTTOU: a terminal may send it to a background process that writes, and so stop it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            _write(2, self._lines.get())


async def _serve(path: str, drain_s: float, options: dict[str, Any], **ends: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = PoolServer(path, **options)
    try:
        await server.start()
        _write(1, f"devnest.pool ready on {server.url}")
        watcher = loop.create_task(_watch(server, stop, **ends))
        await stop.wait()
        watcher.cancel()
    finally:
        await server.close(deadline=drain_s)


async def _watch(
    server: PoolServer,
    stop: asyncio.Event,
    *,
    linger: float | None,
    with_parent: bool,
    max_log: int | None,
) -> None:
    """Stop the server when nobody needs it, and keep its log small."""
    parent = os.getppid()
    while not stop.is_set():
        await asyncio.sleep(CHECK_S)
        is_orphan = with_parent and os.getppid() != parent
        if is_orphan or (linger is not None and server.unused_s >= linger):
            stop.set()
        if max_log is not None:
            with contextlib.suppress(OSError):  # standard error may be no file
                if os.fstat(2).st_size > max_log:
                    os.ftruncate(2, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devnest.pool", description="A pool shared by one user's processes."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(commands.add_parser("serve", help="run the pool"))
    for name, text in (
        ("status", "show a pool's statistics every second, until Ctrl-C"),
        ("stats", "print a pool's statistics once"),
        ("stop", "let a pool finish its calls and end; clients of Pool.shared start the next"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--socket",
            metavar="PATH",
            help="the pool's socket (default: the only one of Pool.shared that runs)",
        )
        if name == "stats":
            command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--socket",
        required=True,
        metavar="PATH",
        help="where to make the socket; its directory must be closed to others",
    )
    serve.add_argument(
        "--workers", type=int, help="worker processes (default: the CPUs this process may use)"
    )
    serve.add_argument(
        "--min-workers",
        type=int,
        help="with --max-workers, instead of --workers: keep at least this many",
    )
    serve.add_argument(
        "--max-workers", type=int, help="start more while tasks wait, up to this many"
    )
    serve.add_argument("--max-queue", type=int, help="tasks that may wait; more are refused (1000)")
    serve.add_argument(
        "--idle-timeout",
        type=float,
        metavar="S",
        help="seconds until an idle worker beyond --min-workers ends (10)",
    )
    serve.add_argument("--max-tasks", type=int, help="replace a worker after about this many tasks")
    serve.add_argument(
        "--max-age", type=float, metavar="S", help="replace a worker after about this many seconds"
    )
    serve.add_argument(
        "--max-rss", type=int, metavar="BYTES", help="replace a worker with more resident memory"
    )
    serve.add_argument("--nice", type=int, help="raise the workers' nice value by this much (0)")
    serve.add_argument(
        "--allow",
        action="append",
        metavar="MODULE[:FUNCTION]",
        help="run only this; can be given several times",
    )
    serve.add_argument(
        "--drain",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds to wait for tasks after TERM (10)",
    )
    serve.add_argument(
        "--linger",
        type=float,
        metavar="S",
        help="end when no client has been connected for this many seconds (never)",
    )
    serve.add_argument(
        "--with-parent", action="store_true", help="end when the process that started this ends"
    )
    serve.add_argument(
        "--max-log",
        type=int,
        metavar="BYTES",
        help="empty the file on standard error when it is larger",
    )


if __name__ == "__main__":
    sys.exit(main())
