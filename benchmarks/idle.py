"""Measures idle keep-alive connections: their memory, and light requests beside them."""

import argparse
import asyncio
import statistics
from pathlib import Path

import uvloop

import report
from devnest.load import Plan, constant, run
from running import CpuUse, DevNest, cpu_use, devnest, pss_bytes, raise_descriptor_limit

GET = b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n"
PROFILE = f"{Path(__file__).with_name('profiles.py')}:Light"
AT_ONCE = 64
KEEP_ALIVE_S = 75


class Idle(asyncio.Protocol):
    """Sends one request and nothing more."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.is_open = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(GET)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done() and data.endswith(b"ok\n"):
            self.answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if not self.answered.done():
            self.answered.set_exception(error or ConnectionResetError())


async def connect(port: int, count: int) -> list[Idle]:
    """Open many connections, each of which has had one request."""
    loop = asyncio.get_running_loop()
    free = asyncio.Semaphore(AT_ONCE)

    async def one() -> Idle:
        async with free:
            _, idle = await loop.create_connection(Idle, "127.0.0.1", port)
            await idle.answered
            return idle

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def light(at: DevNest, rate: float, seconds: float) -> tuple[float, float, int]:
    """Return p50 and p99 of light requests at a constant rate in ms, and the failures."""
    result = await run(Plan(at.url, PROFILE, stages=constant(16, seconds), rate=rate))
    good = result.trend(expected=True)
    return good.percentile(50), good.percentile(99), result.failed


async def measure(at: DevNest, options: argparse.Namespace) -> None:
    """Measure without and with the connections in turn, and their memory the first time."""
    servers = at.parts("server")
    figures: dict[bool, list[tuple[float, float, int]]] = {False: [], True: []}
    uses: dict[bool, CpuUse] = {}  # of the last time
    await light(at, options.rate, 2)  # what every server makes once
    memory = 0
    for number in range(options.rounds):
        with cpu_use(at) as uses[False]:
            figures[False].append(await light(at, options.rate, options.seconds))
        before = sum(map(pss_bytes, servers))
        idle = await connect(at.port, options.connections)
        if number == 0:
            memory = sum(map(pss_bytes, servers)) - before
        with cpu_use(at) as uses[True]:
            figures[True].append(await light(at, options.rate, options.seconds))
        lost = sum(not each.is_open for each in idle)
        for each in idle:
            each.transport.abort()
        if lost:
            print(f"{lost} of {options.connections} idle connections were lost")
    print(
        f"{options.connections} idle connections on {len(servers)} servers, {options.rate:g} light requests a second"
    )
    print(
        f"  memory (PSS) of the servers for each   {memory / options.connections / 1024:8.2f} KiB"
    )
    for with_them, runs in figures.items():
        p50, p99, failed = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"  {'with' if with_them else 'without'} them, ms: p50 {p50:.2f}, p99 {p99:.2f}; {failed:g} failed"
        )
        print(f"    {uses[with_them]}")


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=200, help="light requests a second")
    parser.add_argument(
        "--seconds", type=float, default=10, help=f"of one measurement, below {KEEP_ALIVE_S}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    raise_descriptor_limit(options.connections + 1000)
    with devnest("--hash-cost=4") as at:
        uvloop.run(measure(at, options))


if __name__ == "__main__":
    report.run(main)
