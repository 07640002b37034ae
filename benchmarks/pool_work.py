"""The tasks for the pools of `pool.py`."""

import os
import signal
import time

from devnest import bcrypt
from devnest.pool import batched

WORKERS = 2  # of each pool
CALLERS = 64  # at a time, where there is more than one


def small(number: int) -> int:
    return number + 1


def give_back(data: bytes) -> bytes:
    return data


def spin(seconds: float) -> None:
    """Keep a CPU busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@batched(max_size=bcrypt.LANES, pure=True)
def hash_many(calls: list[tuple[bytes, bytes]]) -> list[bytes]:
    return bcrypt.hashpw_many([password for password, _ in calls], [salt for _, salt in calls])


def hash_for(seconds: float, cost: int) -> float:
    """Hash full batches with no pool at all; return hashes per second."""
    salts = [bcrypt.gensalt(cost) for _ in range(bcrypt.LANES)]
    passwords = [b"password"] * bcrypt.LANES
    done, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        bcrypt.hashpw_many(passwords, salts)
        done += bcrypt.LANES
    return done / took
