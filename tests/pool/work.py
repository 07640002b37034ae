"""Functions that the tests have workers run."""

import ctypes
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from devnest.pool import batched, pure
from devnest.pool.wire.protocol import Kind


def add(a: int, b: int) -> int:
    return a + b


def echo(value: Any) -> Any:
    return value


def keywords(**given: int) -> dict[str, int]:
    return given


def fail(text: str) -> NoReturn:
    raise LookupError(text)


def pid() -> int:
    return os.getpid()


def parent_pid() -> int:
    """The server's process id, where a shared pool runs this."""
    return os.getppid()


def time_slice_ns() -> int:
    """What sched_getattr(2) calls the runtime: 0 before Linux 6.12, or where this test knows no
    number for it.
    """
    attributes = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275, "riscv64": 275}.get(os.uname().machine)
    if number:
        ctypes.CDLL(None).syscall(number, 0, attributes, 48, 0)
    return struct.unpack("=IIQiIQQQ", attributes.raw)[5]  # type: ignore[no-any-return]


def wait_for(path: str) -> int:
    """Run until a file exists: the tests open the gate, nobody sleeps for a guessed time."""
    while not Path(path).exists():
        time.sleep(0.001)
    return os.getpid()


@pure
def pure_wait_for(path: str) -> int:
    """The same, and it may run twice."""
    return wait_for(path)


def announce(path: str) -> None:
    """Say that it runs, then never end."""
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def announce_then_wait(started: str, gate: str) -> int:
    Path(started).write_text(str(os.getpid()))
    return wait_for(gate)


def append(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text)


@batched(max_size=4)
def square_all(calls: list[tuple[int]]) -> list[tuple[int, int]]:
    """Square each, and say how large the batch was."""
    return [(number * number, len(calls)) for (number,) in calls]


@batched(max_size=8)
def echo_all(calls: list[tuple[Any]]) -> list[Any]:
    return [value for (value,) in calls]


@batched(max_size=4)
def mixed(calls: list[tuple[int]]) -> list[object]:
    return [ValueError(f"odd {number}") if number % 2 else number for (number,) in calls]


@batched(max_size=4)
def too_few(calls: list[tuple[int]]) -> list[int]:
    return []


@batched(max_size=4, pure=True)
def pure_raises_at_three(calls: list[tuple[int]]) -> list[int]:
    if any(number == 3 for (number,) in calls):
        raise ValueError("three")
    return [number for (number,) in calls]


@batched(max_size=4, pure=True)
def pure_dies_at_three(calls: list[tuple[int]]) -> list[int]:
    if any(number == 3 for (number,) in calls):
        os.kill(os.getpid(), signal.SIGKILL)
    return [number for (number,) in calls]


@batched(max_size=4)
def slow_at_three(calls: list[tuple[int]]) -> list[int]:
    if any(number == 3 for (number,) in calls):
        time.sleep(3600)
    return [number for (number,) in calls]


@pure
def die_once(path: str) -> str:
    """Kill the worker the first time."""
    marker = Path(path)
    if not marker.exists():
        marker.touch()
        os._exit(7)
    return "second run"


@pure
def die_always(path: str) -> None:
    append(path, "x")
    os._exit(7)


@pure
def pure_echo(value: Any) -> Any:
    return value


# How a task can hurt its worker.


def exit_by_sys(status: int) -> None:
    sys.exit(status)


def exit_at_once(status: int) -> None:
    os._exit(status)


def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def segfault() -> None:
    ctypes.string_at(0)


def run_out_of_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def close_descriptors() -> None:
    os.closerange(0, 256)


def flood_output() -> str:
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * 4_000_000)
        stream.flush()
    os.write(1, b"y" * 4_000_000)
    return "done"


def read_input() -> str:
    return sys.stdin.read()


def fork_and_wait() -> int:
    """Fork a child that outlives this worker unless it is ended with it."""
    child = os.fork()
    if child == 0:
        time.sleep(3600)
        os._exit(0)
    return child


def fork_and_both_return() -> str:
    os.fork()
    return "one of two"


def start_a_program() -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid


def change_directory() -> str:
    os.chdir("/")
    return str(Path.cwd())


def mask_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def start_threads() -> int:
    for _ in range(4):
        threading.Thread(target=time.sleep, args=(3600,)).start()
    return threading.active_count()


def half_reply() -> None:
    """Write the head of a frame on every socket there is, as a worker does that dies in the
    middle of a reply.
    """
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, struct.pack("<IBBQ", 1000, Kind.DONE, 0, 1) + b"half")
        except OSError:
            continue
    os.kill(os.getpid(), signal.SIGKILL)


def large(size: int) -> bytes:
    return b"r" * size


def grow(size: int) -> int:
    _hoard.append(bytearray(size))
    return os.getpid()


_hoard: list[bytearray] = []


class FailsToUnpickle:
    def __reduce__(self) -> tuple[Any, ...]:
        return fail, ("cannot be unpickled",)


class FailsToPickle:
    def __reduce__(self) -> NoReturn:
        raise LookupError("cannot be pickled")


class DiesInDel:
    def __del__(self) -> None:
        raise LookupError("raised in __del__")


class AwkwardError(Exception):
    """Pickles, but cannot be made again from its pickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


class LocalError(Exception):
    def __init__(self) -> None:
        super().__init__("with a lambda")
        self.callback = lambda: None


def give_fails_to_pickle() -> object:
    return FailsToPickle()


def give_dies_in_del() -> str:
    DiesInDel()
    return "survived"


def raise_awkward() -> NoReturn:
    raise AwkwardError("one", "two")


def raise_local() -> NoReturn:
    raise LocalError


def raise_stop_iteration() -> NoReturn:
    raise StopIteration("no loop")


async def coroutine() -> None:
    """Nothing a worker can run."""


@batched(max_size=4)
def gated_batch(calls: list[tuple[str, str, int]]) -> list[int]:
    started, gate, _ = calls[0]
    announce_then_wait(started, gate)
    return [number for _, _, number in calls]


def announce_masked(path: str) -> None:
    """Block every signal that can be blocked, say so, and keep the interpreter busy for ever."""
    mask_signals()
    Path(path).touch()
    while True:
        pass


def sleep_long() -> None:
    time.sleep(3600)
