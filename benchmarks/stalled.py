"""Measures the memory of the servers under clients that ask for large pages and do not read."""

import argparse
import asyncio
import socket

import httpx
import psutil
import uvloop

import report
from idle import light
from running import DevNest, devnest, pss_bytes, raise_descriptor_limit

LARGE = 100  # posts, as many as a page can have
BODY = "\x01" * 50_000  # the longest body there is; each character takes six bytes in JSON
SMALL = 30  # posts, the newest: what the light requests read
TAGS = 10  # of each large post: a page of one tag is shared with nobody who asks for another
PAUSE_S = 0.2  # between two looks at the memory, and two reads of the slow client
MSS_BYTES = (
    1400  # a network's; with the loopback interface's 64 KiB the kernel takes a whole page at once
)
MAX_RECEIVE_BYTES = 4096
MIB = 1024 * 1024


class Memory:
    """The memory of the servers, sampled at an interval."""

    def __init__(self, servers: list[psutil.Process]) -> None:
        self._servers = servers
        self.most = self.now = 0

    def look(self) -> int:
        """Return the MiB in use now."""
        self.now = sum(map(pss_bytes, self._servers)) // MIB
        self.most = max(self.most, self.now)
        return self.now

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PAUSE_S)


def publish(at: DevNest) -> None:
    """Make large posts, and then small ones."""
    account = {"username": "ada", "email": "ada@example.org", "password": "correct horse battery"}
    large = {"title": "t", "body": BODY, "tags": [f"t{number}" for number in range(TAGS)]}
    with httpx.Client(base_url=f"{at.url}/api/v1", timeout=60) as client:
        client.post("/auth/register", json=account).raise_for_status()
        tokens = client.post(
            "/auth/login", json={"email": account["email"], "password": account["password"]}
        )
        client.headers["authorization"] = (
            f"Bearer {tokens.raise_for_status().json()['access_token']}"
        )
        for post in [large] * LARGE + [{"title": "t", "body": "b"}] * SMALL:
            client.post("/posts", json=post).raise_for_status()


def connect(at: DevNest) -> socket.socket:
    """Return a socket whose buffers are as small as those of a slow network."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MAX_RECEIVE_BYTES)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS_BYTES)
    client.connect(("127.0.0.1", at.port))
    client.setblocking(False)
    return client


def request(number: int) -> bytes:
    """Return a request for one of 500 pages."""
    limit, tag = LARGE - number // TAGS % (LARGE // 2), number % TAGS
    return b"GET /api/v1/posts?limit=%d&tag=t%d HTTP/1.1\r\nhost: bench\r\n\r\n" % (limit, tag)


async def read_slowly(at: DevNest, rate: float) -> tuple[int, int]:
    """Read one page at a limited rate; return the bytes that came and those announced."""
    loop = asyncio.get_running_loop()
    with connect(at) as client:
        await loop.sock_sendall(client, request(0))
        head, _, body = (await loop.sock_recv(client, MAX_RECEIVE_BYTES)).partition(b"\r\n\r\n")
        announced = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        came = len(body)
        while came < announced:
            await asyncio.sleep(PAUSE_S)
            due = rate * PAUSE_S
            while due > 0 and came < announced:
                try:
                    data = await loop.sock_recv(client, int(due) + 1)
                except ConnectionError:
                    return came, announced
                if not data:
                    return came, announced
                came += len(data)
                due -= len(data)
        return came, announced


def is_cut_off(client: socket.socket) -> bool:
    """Return whether the server has reset the connection, without reading from it."""
    with client:
        return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


async def measure(at: DevNest, options: argparse.Namespace) -> None:
    """Measure light requests without and beside the clients; the slow reader comes first."""
    await asyncio.to_thread(publish, at)
    memory = Memory(at.parts("server"))
    await light(at, options.rate, 2)  # what every server makes once
    without = await light(at, options.rate, options.seconds)
    before = memory.look()
    watching = asyncio.create_task(memory.watch())
    slow = asyncio.create_task(read_slowly(at, options.reads * 1024))
    beside = asyncio.create_task(light(at, options.rate, options.seconds))
    await asyncio.sleep(1)
    clients = [connect(at) for _ in range(options.clients)]
    for number, client in enumerate(clients):
        client.send(request(number) * options.pipelined)
    with_them = await beside
    held, cut = memory.look(), sum(map(is_cut_off, clients))
    came, announced = await slow
    await asyncio.sleep(options.after)
    watching.cancel()
    print(
        f"{options.clients} clients ask {options.pipelined} times for {LARGE} posts of {len(BODY):,} control characters"
        f" and read nothing"
    )
    print(
        f"  memory (PSS) of {len(at.parts('server'))} servers, MiB: before {before:,}, at most {memory.most:,},"
        f" after {options.seconds:g} s {held:,}, {options.after:g} s after the last has left {memory.now:,}"
    )
    print(f"  of the clients {cut} were cut off by then")
    print(f"  one that reads {options.reads:g} KiB a second got {came:,} of {announced:,} bytes")
    for name, (p50, p99, failed) in (("without", without), ("beside", with_them)):
        print(
            f"  {options.rate:g} light requests a second {name} them, ms: p50 {p50:.2f}, p99 {p99:.2f}; {failed} failed"
        )


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument(
        "--pipelined", type=int, default=4, help="requests that each client sends at once"
    )
    parser.add_argument(
        "--reads", type=float, default=200, help="KiB a second of the client that does read"
    )
    parser.add_argument("--rate", type=float, default=50, help="light requests a second")
    parser.add_argument("--seconds", type=float, default=15, help="that the clients stay, below 30")
    parser.add_argument(
        "--after", type=float, default=3, help="seconds to the last look at the memory"
    )
    options = parser.parse_args()
    raise_descriptor_limit(options.clients + 1000)
    with devnest("--hash-cost=4") as at:
        uvloop.run(measure(at, options))


if __name__ == "__main__":
    report.run(main)
