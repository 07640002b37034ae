"""Measures hashes per second of the bare kernel, in this process or in several at once.

`python benchmarks/kernel.py COST SECONDS NICE` is one of these processes.
"""

import subprocess
import sys
import time

from devnest import bcrypt
from devnest.bcrypt import LANES, checkpw_many
from devnest.pool.runtime.priority import Priority

PASSWORD = "correct horse battery"


def kernel_rate(cost: int, seconds: float) -> tuple[float, float]:
    """Return the hashes per second of one core, and the seconds of one full batch."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost))
    batch = [PASSWORD.encode()] * LANES, [hashed] * LANES
    started, batches = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        checkpw_many(*batch)
        batches += 1
    batch_s = (time.perf_counter() - started) / batches
    return LANES / batch_s, batch_s


def kernel_rates(cost: int, seconds: float, processes: int, nice: int) -> float:
    """Return the summed hashes per second of several processes at a priority."""
    command = [sys.executable, __file__, str(cost), str(seconds), str(nice)]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it has loaded its modules
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    rate = 0.0
    for process in running:
        assert process.stdout is not None
        rate += float(process.stdout.read())
        process.wait()
    return rate


if __name__ == "__main__":
    priority = Priority()
    priority.lower(int(sys.argv[3]))
    while not priority.retry():
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
    print(kernel_rate(int(sys.argv[1]), float(sys.argv[2]))[0])
