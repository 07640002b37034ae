"""Measures sign-ins and one reader's searches while 40 clients search 400 long posts.

For each kind of search in turn it prints how many correct sign-ins, sent at a constant rate, are
answered, and how long they and the reader's searches take. No sign-in may fail because of the
searches. A searching client that is refused tries again after 0.1 s.
"""

import argparse
import asyncio
import itertools
import random
from collections import Counter
from urllib.parse import quote

import uvloop

import report
from client import connected, http
from flood import Bench, percentile, sign_in
from running import cpu_use, devnest

SEARCHERS = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
READER, HONEST = "127.0.0.8", "127.0.0.9"
SIGN_INS, READS = 4.0, 4.0  # a second
KINDS = {  # the searches, in which {} is the client's number: no two clients ask the same
    "nobody searches": "",
    "a negation alone": "-aaa{}",
    "a phrase that is nowhere": '"omega alpha" -x{}',
    "a word of every post": "alpha -x{}",
    "a word of no post": "nowhere{}",
}
PAUSE_S = 0.1  # of a searching client that was refused
POST_CHARACTERS = 50_000  # the longest there is


def long_post(number: int) -> dict[str, str]:
    """Return many different words, and two that each post has, never next to each other."""
    words = random.Random(number)
    body = " ".join(
        ["alpha", "other", "omega", *(f"w{words.getrandbits(40):x}" for _ in range(5000))]
    )
    return {"title": f"post {number}", "body": body[:POST_CHARACTERS]}


def search(words: str) -> bytes:
    """Return a search as bytes."""
    return http("GET", f"/posts?limit=1&q={quote(words)}")


async def at_rate(
    port: int,
    address: str,
    request: bytes,
    rate: float,
    seconds: float,
    statuses: Counter[int],
    took_ms: list[float],
) -> None:
    """Send requests at a constant rate, each on its own connection; wait for all answers."""

    async def send() -> None:
        client = await connected(port, address)
        status, elapsed_ms = await client.request(request)
        statuses[status] += 1
        took_ms.append(elapsed_ms)
        client.transport.close()

    began_at = asyncio.get_running_loop().time()
    sending = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(began_at + number / rate - asyncio.get_running_loop().time())
        sending.append(asyncio.create_task(send()))
    await asyncio.gather(*sending)


async def attack(
    port: int, address: str, request: bytes, seconds: float, statuses: Counter[int]
) -> None:
    """Send a request again and again, as fast as it is answered."""
    now = asyncio.get_running_loop().time
    until = now() + seconds
    client = await connected(port, address)
    while now() < until:
        status, _ = await client.request(request)
        statuses[status] += 1
        if status != 200:
            await asyncio.sleep(PAUSE_S)
        if status == 0:
            client = await connected(port, address)
    client.transport.close()


async def prepare(port: int, posts: int) -> None:
    """Make the accounts, the long posts, and one post for the reader to find."""
    bench = Bench(port)
    await bench.prepare()
    client = await connected(port)
    for number in range(posts):
        status, _ = await client.request(http("POST", "/posts", long_post(number), bench.token))
        assert status == 201, status
    await client.request(
        http("POST", "/posts", {"title": "t", "body": "what the reader wants"}, bench.token)
    )
    client.transport.close()


async def measure(port: int, words: str, options: argparse.Namespace) -> dict[str, object]:
    """Measure under one kind of search."""
    sign_ins, reads, searches = Counter[int](), Counter[int](), Counter[int]()
    sign_in_ms, read_ms = list[float](), list[float]()
    crowd = (
        zip(range(options.clients), itertools.cycle(SEARCHERS[: options.addresses]))
        if words
        else ()
    )
    await asyncio.gather(
        at_rate(port, HONEST, sign_in("honest"), SIGN_INS, options.seconds, sign_ins, sign_in_ms),
        at_rate(port, READER, search('"reader wants"'), READS, options.seconds, reads, read_ms),
        *(
            attack(port, address, search(words.format(n)), options.seconds, searches)
            for n, address in crowd
        ),
    )
    return {
        "right sign-ins, by status": dict(sign_ins),
        "sign-in p50 and max, ms": f"{percentile(sign_in_ms, 50):.0f} {max(sign_in_ms):.0f}",
        "the reader's searches, by status": dict(reads),
        "the reader's p50 and max, ms": f"{percentile(read_ms, 50):.0f} {max(read_ms):.0f}",
        "searches of the 40, by status": dict(searches),
    }


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of search")
    parser.add_argument("--posts", type=int, default=400)
    parser.add_argument("--clients", type=int, default=40, help="that search")
    parser.add_argument(
        "--addresses", type=int, default=4, choices=range(1, 5), help="that they have"
    )
    parser.add_argument(
        "--cost", type=int, default=10, help="of bcrypt; DevNest's own default is 12"
    )
    options = parser.parse_args()
    with devnest(f"--hash-cost={options.cost}") as at:
        uvloop.run(prepare(at.port, options.posts))
        for kind, words in KINDS.items():
            with cpu_use(at) as use:
                figures = uvloop.run(measure(at.port, words, options))
            print(kind)
            for name, figure in figures.items():
                print(f"  {name:34} {figure}")
            print(f"  {use}", flush=True)


if __name__ == "__main__":
    report.run(main)
