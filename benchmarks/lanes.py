"""Measures bcrypt on this machine: `make bench-lanes`, or `lanes.py lanes|cores|stall|batch`.

lanes  one to eight lanes and pyca/bcrypt, alternating, medians of five, on one CPU
cores  two processes on two CPUs beside one on one, for pyca/bcrypt, one lane and the lanes in use
stall  how long the interpreter stands still while eight threads hash batches
batch  time and peak memory of 100,000 hashes of cost 4
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import bcrypt as pyca

import report
from devnest import bcrypt
from devnest.bcrypt.backend import KERNEL, with_kernel
from devnest.bcrypt.calibration import PASSWORDS, RUN_COST, SETTINGS, measure
from devnest.bcrypt.machine import cpu_model

ROUNDS = 3
RUN_S = 1.0
BATCH = 100_000
TO_COST_5 = 2.0 ** (10 - 5)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pin(cpu: int) -> None:
    """Keep this process on one CPU, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})


def cpus() -> list[int]:
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


def busy_s(cpu: int) -> float:
    """Return the seconds for which a CPU was in use since it started; 0 if unknown."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    for line in lines:
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def lanes() -> None:
    *others, cpu = cpus()
    pin(cpu)
    start, before = time.monotonic(), sum(map(busy_s, others))
    rates = measure()
    load = (sum(map(busy_s, others)) - before) / (time.monotonic() - start)
    say(
        f"hashes per second on one core, cost 5; the other CPUs were in use for {load:.0%} of one meanwhile\n"
    )
    say("| | hashes/s | beside pyca/bcrypt |")
    say("| --- | --- | --- |")
    say(f"| pyca/bcrypt | {rates.pyca * TO_COST_5:,.0f} | 1 |")
    for count, rate in enumerate(rates.kernel, start=1):
        say(f"| {count} | {rate * TO_COST_5:,.0f} | {rate / rates.pyca:.2f} |")


def work(what: str, cpu: int) -> None:
    """Run one process of `cores`: print ready, wait for a line, hash, print the rate."""
    pin(cpu)
    say("ready")
    sys.stdin.readline()
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < RUN_S:
        if what == "pyca" or KERNEL is None:
            pyca.hashpw(PASSWORDS[0], SETTINGS[0].text())
            done += 1
        else:
            count = int(what)
            with_kernel(KERNEL, count, PASSWORDS[:count], SETTINGS[:count])
            done += count
    say(str(done / passed * 2.0 ** (RUN_COST - 5)))


def together(what: str, on: list[int]) -> float:
    """Return the summed rate of one process on each of these CPUs."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "work", what, str(cpu)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for cpu in on
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes)


def cores() -> None:
    usable = cpus()
    if len(usable) < 2:
        say("one CPU only: nothing to compare")
        return
    say("hashes per second, cost 5, medians of three\n")
    say("| | one process | two, on two CPUs | ratio |")
    say("| --- | --- | --- | --- |")
    for what in ("pyca", "1", str(bcrypt.LANES)):
        rates = [(together(what, usable[-1:]), together(what, usable[-2:])) for _ in range(ROUNDS)]
        one, two = (statistics.median(column) for column in zip(*rates, strict=True))
        name = "pyca/bcrypt" if what == "pyca" else f"{what} lane{'s' * (what != '1')}"
        say(f"| {name} | {one:,.0f} | {two:,.0f} | {two / one:.2f} |")


def stall() -> None:
    stop = False
    passwords, salts = [b"a"] * 24, [bcrypt.gensalt(6)] * 24

    def hash_batches() -> None:
        while not stop:
            bcrypt.hashpw_many(passwords, salts)

    def gaps(seconds: float) -> list[float]:
        found, end = [], time.perf_counter() + seconds
        last = time.perf_counter()
        while last < end:
            time.sleep(0.001)
            now = time.perf_counter()
            found.append(now - last - 0.001)
            last = now
        return sorted(found)

    idle = gaps(2 * RUN_S)
    threads = [threading.Thread(target=hash_batches) for _ in range(8)]
    for thread in threads:
        thread.start()
    hashing = gaps(4 * RUN_S)
    stop = True
    for thread in threads:
        thread.join()
    say(
        f"main thread late beyond its 1 ms of sleep; switch interval {sys.getswitchinterval() * 1000:g} ms\n"
    )
    say("| | median | p99 | worst |")
    say("| --- | --- | --- | --- |")
    for name, found in (("idle", idle), ("8 threads hashing", hashing)):
        median, p99, worst = (1000 * found[int(part * (len(found) - 1))] for part in (0.5, 0.99, 1))
        say(f"| {name} | {median:.2f} ms | {p99:.2f} ms | {worst:.2f} ms |")


def batch() -> None:
    passwords = [b"password %d" % index for index in range(BATCH)]
    salts = [bcrypt.gensalt(4) for _ in passwords]
    unit = 1 if platform.system() == "Darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    start = time.perf_counter()
    hashes = bcrypt.hashpw_many(passwords, salts)
    passed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    held = sum(map(sys.getsizeof, hashes)) + sys.getsizeof(hashes)
    say(
        f"{BATCH:,} hashes of cost 4: {passed:.1f} s, {BATCH / passed:,.0f} a second; peak memory {peak / 1e6:.0f} MB, "
        f"{(peak - before) / 1e6:.0f} MB of it for the call, {held / 1e6:.0f} MB of that the result"
    )


PARTS = {"lanes": lanes, "cores": cores, "stall": stall, "batch": batch}


def main() -> None:
    parser = report.parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="?", choices=[*PARTS, "work"], help="all of them where none is named"
    )
    parser.add_argument("of_work", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "work":
        work(given.of_work[0], int(given.of_work[1]))
    elif given.part:
        say(f"\n{given.part}: {cpu_model()}, {platform.system()} {platform.release()}")
        PARTS[given.part]()
    else:
        # Each part in a process of its own, or it would keep the pinned CPU and the memory peak of
        # the part before.
        for part in PARTS:
            command = [sys.executable, __file__, part]
            done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
            say(done.stdout.rstrip())


if __name__ == "__main__":
    report.run(main)
