"""Runs sign-ins, posts and reads at half load, and records the memory of every process."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import uvloop

import report
from devnest.load import Plan, constant, run
from running import DevNest, devnest, pss_bytes

PROFILE = f"{Path(__file__).with_name('profiles.py')}:Mixed"
SAMPLES = 60
WARM_UP = 0.1  # share of the time; what is made once is made by then
Sample = dict[psutil.Process, tuple[str, int]]


def look(at: DevNest) -> Sample:
    """Return the memory of every process."""
    sample: Sample = {}
    for process, kind in at.tree().items():
        try:
            sample[process] = kind, pss_bytes(process)
        except psutil.NoSuchProcess:
            continue
    return sample


async def watch(at: DevNest, seconds: float, samples: list[tuple[float, Sample]]) -> None:
    """Take samples until cancelled."""
    started = time.monotonic()
    while True:
        samples.append((time.monotonic() - started, await asyncio.to_thread(look, at)))
        await asyncio.sleep(seconds / SAMPLES)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line."""
    x = sum(at for at, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    spread = sum((at - x) ** 2 for at, _ in points)
    return sum((at - x) * (value - y) for at, value in points) / spread if spread else 0.0


def show(samples: list[tuple[float, Sample]]) -> None:
    """Print a line for each process that lived to the end, and one for all processes.

    The slope of the second half shows whether memory still grows. Access tokens and ended sessions
    are remembered for 15 minutes, so the run should be longer than 30.
    """
    print(f"{'MiB, PSS':36} {'start':>9} {'middle':>9} {'end':>9} {'KiB/min':>9} {'2nd half':>9}")
    times = [at for at, _ in samples]
    series = {f"{kind} {process.pid}": [sample.get(process, ("", 0))[1] for _, sample in samples]
              for process, (kind, _) in samples[0][1].items() if process in samples[-1][1]}  # fmt: skip
    series["all processes"] = [sum(size for _, size in sample.values()) for _, sample in samples]
    for name, sizes in series.items():
        start, middle, end = (sizes[place] / 2**20 for place in (0, len(sizes) // 2, -1))
        points = list(zip(times, sizes, strict=True))
        rise, later = (slope(part) * 60 / 1024 for part in (points, points[len(points) // 2 :]))
        print(f"{name:36} {start:9.2f} {middle:9.2f} {end:9.2f} {rise:9.1f} {later:9.1f}")
    first, last = samples[0][1].keys(), samples[-1][1].keys()
    print(f"{len(last - first)} processes came and {len(first - last)} went meanwhile")


async def soak(at: DevNest, options: argparse.Namespace) -> None:
    """Run at the given rate, or at half of a full load that is measured first."""
    rate = options.rate
    if rate is None:
        full = await run(Plan(at.url, PROFILE, stages=constant(options.vus, options.full_seconds)))
        rate = full.iterations.count / full.elapsed_s / 2
        print(f"full load: {2 * rate:.1f} rounds (a sign-in, a post, two reads) a second")
    seconds = options.minutes * 60
    samples: list[tuple[float, Sample]] = []
    watching = asyncio.create_task(watch(at, seconds, samples))
    result = await run(Plan(at.url, PROFILE, stages=constant(options.vus, seconds), rate=rate))
    watching.cancel()
    p99 = result.trend(expected=True).percentile(99)
    print(f"{rate:.1f} rounds a second for {options.minutes:g} min: {result.requests} requests, p99 {p99:.1f} ms, "
          f"{result.failed} failed, {result.dropped} rounds dropped")  # fmt: skip
    warm = [(at_s, sample) for at_s, sample in samples if at_s >= WARM_UP * seconds]
    show(warm)


def main() -> None:
    """Run and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--rate", type=float, help="rounds a second (default: half of what is measured first)"
    )
    parser.add_argument("--full-seconds", type=float, default=10, help="length of that measurement")
    parser.add_argument("--vus", type=int, default=32)
    parser.add_argument("--cost", type=int, default=10)
    options = parser.parse_args()
    with devnest(f"--hash-cost={options.cost}") as at:
        uvloop.run(soak(at, options))


if __name__ == "__main__":
    report.run(main)
