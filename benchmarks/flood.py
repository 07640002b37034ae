"""Sends ten times the sign-ins that the machine can hash, beside honest clients.

It measures:

- light requests, beside those of an idle machine;
- goodput: the share of the kernel's rate that arrives as answered sign-ins, and the share of the
  rate before the flood, when sign-ins just keep the workers busy beside the same light requests;
- the time of a refusal;
- the wait of an honest client for its own sign-in.

It also prints the CPU use of each kind of process, and the time of a batch with and without the
flood. `--extremes` repeats this for several values of `--hash-nice`, and measures sign-ins under a
flood of reads.
"""

import argparse
import asyncio
import gc
import itertools
import os
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec
import uvloop

import report
from client import Client, connected, http
from devnest.bcrypt import LANES
from devnest.settings import HASH_NICE
from kernel import PASSWORD, kernel_rates
from running import cpu_use, devnest

FLOODERS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
HONEST, LIGHT = "127.0.0.9", "127.0.0.10"
LEAD = 5  # batches
ACCOUNTS = 30  # of the flood: with limits one alone would have no more than ten tries under way


def sign_in(username: str) -> bytes:
    """Return a sign-in as bytes."""
    return http("POST", "/auth/login", {"username": username, "password": PASSWORD})


FLOOD = [sign_in(f"flood-{number}") for number in range(ACCOUNTS)]


class Bench:
    """A DevNest and its clients."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = ""

    async def connect(self, address: str) -> Client:
        return await connected(self.port, address)

    async def prepare(self) -> None:
        """Make an account for each kind of client, and some posts."""
        client = await self.connect(LIGHT)
        for name in ("honest", "light", *(f"flood-{number}" for number in range(ACCOUNTS))):
            account = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
            await client.request(http("POST", "/auth/register", account))
        await client.request(sign_in("light"))
        self.token = msgspec.json.decode(client.body)["access_token"]
        for _ in range(20):
            await client.request(http("POST", "/posts", {"title": "t", "body": "b"}, self.token))
        client.transport.close()

    async def batches(self) -> tuple[float, float]:
        """Return the seconds of all batches since the workers started, and their number."""
        client = await self.connect(LIGHT)
        await client.request(b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n")
        client.transport.close()
        lines = client.body.decode().splitlines()
        values = {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines)
            if name[:1] != "#"
        }
        return values["pool_run_seconds_sum"], values["pool_run_seconds_count"]

    async def light(self, seconds: float, rate: float, times: list[float]) -> None:
        """Send reads and posts at a constant rate; each is timed from the moment it was due."""
        clients = [await self.connect(LIGHT) for _ in range(16)]
        free = asyncio.Queue[Client]()
        for client in clients:
            free.put_nowait(client)
        requests = itertools.cycle(
            [http("GET", "/posts?limit=5")] * 2
            + [http("POST", "/posts", {"title": "t", "body": "b"}, self.token)]
        )
        started = time.perf_counter()
        tasks = []

        async def one(request: bytes, due: float) -> None:
            client = await free.get()
            status, _ = await client.request(request)
            free.put_nowait(client)
            assert status in (200, 201), status
            times.append((time.perf_counter() - due) * 1000)

        for number in range(int(seconds * rate)):
            due = started + number / rate
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(asyncio.create_task(one(next(requests), due)))
        await asyncio.gather(*tasks)

    async def crowd(self, seconds: float, clients: int, ended: list[float]) -> None:
        """Run clients from the addresses of the flood, each of which signs in again and again.

        `ended` gets the time of each answer.
        """
        addresses, requests = itertools.cycle(FLOODERS), itertools.cycle(FLOOD)
        ends = time.perf_counter() + seconds

        async def one() -> None:
            client, request = await self.connect(next(addresses)), next(requests)
            while time.perf_counter() < ends:
                status, _ = await client.request(request)
                assert status == 200, f"one of few was answered {status}"
                ended.append(time.perf_counter())
            client.transport.close()

        await asyncio.gather(*(one() for _ in range(clients)))

    async def flood(
        self, seconds: float, rate: float, ended: list[float], refused: list[float]
    ) -> None:
        """Send sign-ins from a few addresses at a constant rate.

        Requests without an answer at the end are dropped.
        """
        clients: asyncio.Queue[Client] = asyncio.Queue()
        addresses, requests = itertools.cycle(FLOODERS), itertools.cycle(FLOOD)
        started = time.perf_counter()
        tasks = set()

        async def one() -> None:
            client = (
                clients.get_nowait() if not clients.empty() else await self.connect(next(addresses))
            )
            status, elapsed = await client.request(next(requests))
            if status:
                clients.put_nowait(client)
                if status == 200:
                    ended.append(time.perf_counter())
                else:
                    refused.append(elapsed)

        for number in range(int(seconds * rate)):
            await asyncio.sleep(started + number / rate - time.perf_counter())
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in list(tasks):
            task.cancel()

    async def honest(self, seconds: float, waits: list[float], ended: list[float]) -> None:
        """Sign in again and again with a pause; return how long each took, and when it ended."""
        client = await self.connect(HONEST)
        request = sign_in("honest")
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            status, elapsed = await client.request(request)
            assert status == 200, f"an honest client was answered {status}"
            waits.append(elapsed)
            ended.append(time.perf_counter())
            await asyncio.sleep(0.2)

    async def readers(self, seconds: float) -> None:
        """Send reads on 32 connections as fast as they are answered."""
        ends = time.perf_counter() + seconds

        async def read() -> None:
            client = await self.connect(LIGHT)
            while time.perf_counter() < ends:
                await client.request(http("GET", "/posts"))

        await asyncio.gather(*(read() for _ in range(32)))


def percentile(values: list[float], p: float) -> float:
    """Return the p-th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] if ordered else float("nan")


def answered(moments: list[float], since: float, seconds: float) -> float:
    """Return how many of the moments lie in a period, for each second of it."""
    return sum(since <= moment < since + seconds for moment in moments) / seconds


def fixed(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the options of DevNest that are the same in every run."""
    limits = "--limits" if options.limits else "--no-limits"
    return f"--hash-cost={options.cost}", f"--hash-workers={options.workers}", limits


async def measure(options: argparse.Namespace, nice: int) -> dict[str, float]:
    """Measure all figures for one value of `--hash-nice`."""
    # All at once: two CPUs may be two threads of one core.
    capacity = kernel_rates(options.cost, 2.0, options.workers, nice)
    batch_s = LANES * options.workers / capacity
    clients = 3 * LANES * options.workers
    if options.limits:
        clients = min(clients, ACCOUNTS)  # more at once would be refused, for tries under way count
    lead_s = (
        LEAD * batch_s
    )  # what is answered before is not counted: the first batch has yet to end
    idle: list[float] = []
    crowded: list[float] = []
    light: list[float] = []
    signed_in: list[float] = []
    refused: list[float] = []
    waits: list[float] = []
    with devnest(*fixed(options), f"--hash-nice={nice}") as at:
        bench = Bench(at.port)
        await bench.prepare()
        await bench.light(options.seconds / 2, 200, idle)
        began_at = time.perf_counter()
        await asyncio.gather(
            bench.crowd(lead_s + options.seconds, clients, crowded),
            bench.light(lead_s + options.seconds, 200, []),
        )
        before = answered(crowded, began_at + lead_s, options.seconds)
        earlier_s, earlier = await bench.batches()
        began_at = time.perf_counter()
        with cpu_use(at) as use:
            await asyncio.gather(
                bench.flood(lead_s + options.seconds, 10 * capacity, signed_in, refused),
                bench.light(lead_s + options.seconds, 200, light),
                bench.honest(lead_s + options.seconds, waits, signed_in),
            )
        goodput = answered(signed_in, began_at + lead_s, options.seconds)
        run_s, count = await bench.batches()
    return {
        "kernel, all workers, /s": capacity,
        "light p50 idle, ms": percentile(idle, 50),
        "light p99 idle, ms": percentile(idle, 99),
        "light p50 flooded, ms": percentile(light, 50),
        "light p99 flooded, ms": percentile(light, 99),
        "sign-ins before the flood, /s": before,
        "sign-ins in the flood, /s": goodput,
        "goodput / kernel": goodput / capacity,
        "goodput / before the flood": goodput / before,
        "refusals": len(refused),
        "refusal p50, ms": percentile(refused, 50),
        "refusal p99, ms": percentile(refused, 99),
        "honest wait p50, ms": percentile(waits, 50),
        "honest wait max, ms": max(waits, default=float("nan")),
        "honest wait max, batches": max(waits, default=float("nan")) / 1000 / batch_s,
        "batch, kernel alone, ms": 1000 * batch_s,
        "batch, flooded, ms": 1000 * (run_s - earlier_s) / max(1.0, count - earlier),
        **use.figures(),
    }


async def sign_ins_under_reads(options: argparse.Namespace, nice: int) -> dict[str, float]:
    """Measure the other extreme: one client's sign-ins beside a flood of reads."""
    alone: list[float] = []
    waits: list[float] = []
    with devnest(*fixed(options), f"--hash-nice={nice}") as at:
        bench = Bench(at.port)
        await bench.prepare()
        await bench.honest(options.seconds / 2, alone, [])
        await asyncio.gather(
            bench.readers(options.seconds), bench.honest(options.seconds, waits, [])
        )
    return {
        "sign-in alone, p50 ms": percentile(alone, 50),
        "sign-in under reads, p50 ms": percentile(waits, 50),
    }


def show(title: str, runs: list[dict[str, float]]) -> None:
    """Return the medians of the runs."""
    print(title)
    for name in runs[0]:
        print(f"  {name:30} {statistics.median(run[name] for run in runs):10.2f}")


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--cost", type=int, default=10, help="of bcrypt; DevNest's own default is 12"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--limits",
        action="store_true",
        help="with limits by address and account, as DevNest is by default",
    )
    parser.add_argument("--nice", type=int, default=HASH_NICE, help="the value of --hash-nice")
    parser.add_argument(
        "--extremes",
        action="store_true",
        help="several values, and sign-ins under a flood of reads",
    )
    options = parser.parse_args()
    # A collection with 2,000 waiting clients takes 22 ms, which would count as a slow response.
    gc.disable()
    values = [0, 3, 5, 10, 19] if options.extremes else [options.nice]
    questions: list[Callable[[argparse.Namespace, int], Awaitable[dict[str, float]]]] = [measure]
    if options.extremes:
        questions.append(sign_ins_under_reads)
    answers: dict[int, list[dict[str, float]]] = {nice: [] for nice in values}
    for _ in range(options.runs):
        for nice in values:
            answer: dict[str, float] = {}
            for question in questions:
                answer |= uvloop.run(question(options, nice))  # type: ignore[arg-type]
            answers[nice].append(answer)
    for nice, runs in answers.items():
        of = f"cost {options.cost}, {LANES} lanes, {options.workers} workers, {options.runs} runs"
        show(f"--hash-nice {nice}, {of}", runs)


if __name__ == "__main__":
    report.run(main)
