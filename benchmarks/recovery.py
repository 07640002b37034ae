"""Kills each kind of process in turn under load, and measures how long clients notice.

Times count from the kill. "Next" is the end of the first successful response to a request that was
sent after the kill. "Last failure" is the end of the last request that failed or was refused.
"Longest answer" is that of the successful requests that were open at the kill or were sent later.
"""

import argparse
import asyncio
import contextlib
import itertools
import time
from collections import Counter
from dataclasses import dataclass

import msgspec
import psutil
import uvloop

import report
from client import Client, connected, http
from kernel import PASSWORD
from running import DevNest, devnest

KINDS = ("login", "post", "feed")
REFUSED = 503
VICTIMS = {
    "server": 1.0,
    "worker": 1.0,
    "pool": 1.0,
    "backend": 3.0,
    "postmaster": 3.0,
}  # and the target in seconds
TIMEOUT_S = 30.0
THINK_S = 0.02


@dataclass(frozen=True)
class Outcome:
    """One request: its times, its port, and its status, which is 0 if there was no response."""

    kind: str
    status: int
    port: int
    sent: float
    ended: float

    @property
    def is_good(self) -> bool:
        return self.status in (200, 201)


class Person:
    """A client with an account and a connection, which records all its requests."""

    def __init__(self, port: int, number: int, outcomes: list[Outcome]) -> None:
        self._port = port
        self._client: Client | None = None
        self._outcomes = outcomes
        self._name = f"person{number}"
        self._token = ""

    async def enter(self) -> None:
        """Register and sign in."""
        account = {
            "username": self._name,
            "email": f"{self._name}@example.org",
            "password": PASSWORD,
        }
        assert await self.request("register", http("POST", "/auth/register", account)) == 201
        assert await self.sign_in() == 200
        assert self._client is not None
        self._token = msgspec.json.decode(self._client.body)["access_token"]

    async def sign_in(self) -> int:
        return await self.request(
            "login", http("POST", "/auth/login", {"username": self._name, "password": PASSWORD})
        )

    async def post(self) -> int:
        return await self.request(
            "post", http("POST", "/posts", {"title": "t", "body": "b"}, self._token)
        )

    async def read(self) -> int:
        return await self.request("feed", http("GET", "/posts"))

    async def request(self, kind: str, request: bytes) -> int:
        """Send one request; return its status, 0 if there was no connection or response."""
        sent, status = time.perf_counter(), 0
        client = self._client
        with contextlib.suppress(OSError):  # a timeout is one too
            async with asyncio.timeout(TIMEOUT_S):
                if client is None or client.transport.is_closing():
                    client = self._client = await connected(self._port)
                status, _ = await client.request(request)
        port = client.port if client is not None else 0
        self._outcomes.append(Outcome(kind, status, port, sent, time.perf_counter()))
        if not status and client is not None:
            client.transport.abort()  # a late answer must meet no other request
        return status


class Crowd:
    """Let half of the clients sign in and half read and post; return their requests."""

    def __init__(self, at: DevNest, size: int) -> None:
        self.at = at
        self.outcomes: list[Outcome] = []
        self._size = size
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Crowd":
        people = [Person(self.at.port, number, self.outcomes) for number in range(self._size)]
        await asyncio.gather(*(person.enter() for person in people))
        self._tasks = [asyncio.create_task(self._live(*each)) for each in enumerate(people)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _live(self, number: int, person: Person) -> None:
        habits = [person.sign_in] if number % 2 else [person.post, person.read, person.read]
        for habit in itertools.cycle(habits):
            await habit()
            await asyncio.sleep(THINK_S)


def ports(process: psutil.Process) -> set[int]:
    """Return the ports of the clients that are connected to a server."""
    return {each.raddr.port for each in process.net_connections("tcp") if each.raddr}


async def kill(crowd: Crowd, kind: str, options: argparse.Namespace) -> dict[str, float]:
    """One kill, and what the clients noticed."""
    await asyncio.sleep(options.calm)
    crowd.outcomes.clear()
    victim = max(crowd.at.parts(kind), key=lambda process: sum(process.cpu_times()[:2]))
    killed = time.perf_counter()
    victim.suspend()  # from now on its connections are those it has
    its_ports = ports(victim) if kind == "server" else set()
    victim.kill()
    await asyncio.sleep(options.after)
    after = [outcome for outcome in crowd.outcomes if outcome.ended > killed]
    return summary(after, killed, its_ports)


def summary(after: list[Outcome], killed: float, its_ports: set[int]) -> dict[str, float]:
    """Return counts, and seconds since the kill."""
    counts = Counter(
        (outcome.status, outcome.port in its_ports) for outcome in after if not outcome.is_good
    )
    figures = {
        "failed, its connections": sum(
            count for (status, its), count in counts.items() if its and status != REFUSED
        ),
        "failed, others": sum(
            count for (status, its), count in counts.items() if not its and status != REFUSED
        ),
        "refused (503)": sum(count for (status, _), count in counts.items() if status == REFUSED),
        "last failure": max((o.ended for o in after if not o.is_good), default=killed) - killed,
        "longest answer": max((o.ended - o.sent for o in after if o.is_good), default=0.0),
    }
    for kind in KINDS:
        good = [o.ended for o in after if o.kind == kind and o.is_good and o.sent > killed]
        figures[f"next {kind}"] = min(good, default=float("inf")) - killed
    return figures


def show(kind: str, runs: list[dict[str, float]]) -> None:
    """Return the worst of the rounds."""
    target = VICTIMS[kind]
    worst = {name: max(run[name] for run in runs) for name in runs[0]}
    late = max(worst[f"next {each}"] for each in KINDS) > target or worst["failed, others"]
    print(
        f"{kind} ({len(runs)} killed; the worst of them; target {target:g} s): {'MISSED' if late else 'met'}"
    )
    for name, value in worst.items():
        is_count = name.startswith(("failed", "refused"))
        print(f"  {name:26} {value:10.0f}" if is_count else f"  {name:26} {value:10.3f} s")


async def measure(at: DevNest, options: argparse.Namespace) -> None:
    """Kill every kind of process in turn, in each round."""
    figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in options.victims}
    async with Crowd(at, options.clients) as crowd:
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(options.rounds):
                for kind in options.victims:
                    figures[kind].append(await kill(crowd, kind, options))
    for kind, runs in figures.items():
        show(kind, runs)


def main() -> None:
    """Kill, measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--calm", type=float, default=2, help="seconds before a kill")
    parser.add_argument("--after", type=float, default=5, help="seconds after a kill")
    parser.add_argument("--cost", type=int, default=8)
    parser.add_argument("--victims", nargs="+", choices=list(VICTIMS), default=list(VICTIMS))
    options = parser.parse_args()
    with devnest(f"--hash-cost={options.cost}", "--processes=2", "--hash-workers=2") as at:
        uvloop.run(measure(at, options))


if __name__ == "__main__":
    report.run(main)
