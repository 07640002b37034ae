"""Measures the share of the kernel's hash rate that arrives through HTTP under overload.

The bare kernel hashes in as many processes as there are workers, at the workers' priority, in turn
with the sign-ins.
"""

import argparse
import os
import statistics
from pathlib import Path

import uvloop

import report
from devnest.bcrypt import LANES
from devnest.load import Plan, constant, run
from devnest.settings import HASH_NICE
from kernel import kernel_rates
from running import CpuUse, DevNest, cpu_use, devnest

PROFILE = f"{Path(__file__).with_name('profiles.py')}:SignIns"


async def sign_ins(at: DevNest, vus: int, seconds: float) -> tuple[float, int]:
    """Return the hashes per second that were answered through HTTP, and the refusals."""
    result = await run(Plan(at.url, PROFILE, stages=constant(vus, seconds)))
    registered, signed_in = result.statuses("register"), result.statuses("login")
    hashes = registered.get(201, 0) + signed_in.get(200, 0)
    return hashes / result.elapsed_s, sum(signed_in.values()) - signed_in.get(200, 0)


async def measure(at: DevNest, options: argparse.Namespace, vus: int) -> None:
    """Measure in turn; return medians."""
    kernel, served, ratios = [], [], []
    uses: list[CpuUse] = []
    refusals = 0
    for _ in range(options.runs):
        kernel.append(kernel_rates(options.cost, options.seconds, options.workers, options.nice))
        with cpu_use(at) as use:
            rate, refused = await sign_ins(at, vus, options.seconds)
        uses.append(use)
        served.append(rate)
        refusals += refused
        kernel.append(kernel_rates(options.cost, options.seconds, options.workers, options.nice))
        ratios.append(rate / statistics.mean(kernel[-2:]))
    print(f"cost {options.cost}, {LANES} lanes, {options.workers} workers at nice {options.nice}, {vus} clients, "
          f"{options.runs} runs; {refusals} refusals")  # fmt: skip
    print(f"  kernel, all workers, hashes/s     {statistics.median(kernel):8.1f}")
    print(f"  sign-ins through HTTP, hashes/s   {statistics.median(served):8.1f}")
    print(f"  ratio (target 0.9)                {statistics.median(ratios):8.3f}   of the runs: "
          + ", ".join(f"{ratio:.3f}" for ratio in ratios))  # fmt: skip
    for use in uses:
        print(f"  {use}")


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--cost", type=int, default=10)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--nice", type=int, default=HASH_NICE)
    options = parser.parse_args()
    with devnest(
        f"--hash-cost={options.cost}",
        f"--hash-workers={options.workers}",
        f"--hash-nice={options.nice}",
    ) as at:
        uvloop.run(measure(at, options, 3 * LANES * options.workers))


if __name__ == "__main__":
    report.run(main)
