"""Measures whether the time of a refused sign-in tells which accounts exist.

It sends sign-ins one at a time, in a new random order for each round: an unknown account, a wrong
password, and a disabled account with its right password. It prints the ratios of medians and a
two-sided Mann-Whitney U test for each pair. p is the probability that two samples of the same
distribution differ in rank at least as much; below 0.01 the two kinds differ. The share is that of
all pairs in which the first kind took longer; 50 % means that one time tells nothing.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import report
from devnest.store import Database, DataDirectory, disable_account, find_account_id, running_url

PASSWORD = "correct horse battery"
ACCOUNTS = 10  # of a kind, taken in turn
KINDS = ("unknown", "wrong password", "disabled")
TARGET = 0.02


@contextmanager
def devnest(*options: str) -> Iterator[tuple[int, Path]]:
    """Run a new DevNest with one server and one worker; yield its port and data directory."""
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        Path(directory).chmod(0o711)
        data_dir = Path(directory) / "d"
        process = subprocess.Popen(
            [sys.executable, "-m", "devnest", "serve", "--port=0", "--log-level=error", "--no-limits", "--processes=1",
             "--hash-workers=1", f"--data-dir={data_dir}", *options],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rsplit(":", 1)[1]), data_dir
        finally:
            process.terminate()
            process.wait()


def post(connection: http.client.HTTPConnection, path: str, body: dict[str, str]) -> int:
    """Send a request and return the status of its response."""
    connection.request(
        "POST", f"/api/v1/auth/{path}", json.dumps(body), {"content-type": "application/json"}
    )
    response = connection.getresponse()
    response.read()
    return response.status


def prepare(connection: http.client.HTTPConnection, data_dir: Path) -> None:
    """Make the accounts, and disable those that are to be disabled."""

    async def disable() -> None:
        async with Database(running_url(DataDirectory(data_dir)), connections=1) as database:
            for number in range(ACCOUNTS):
                account_id = await find_account_id(database, f"disabled{number:03}")
                assert account_id is not None
                await disable_account(database, account_id)

    for name, number in itertools.product(("member", "disabled"), range(ACCOUNTS)):
        username = f"{name}{number:03}"
        account = {"username": username, "email": f"{username}@example.org", "password": PASSWORD}
        assert post(connection, "register", account) == 201
    asyncio.run(disable())


def measure(connection: http.client.HTTPConnection, logins: int) -> dict[str, list[float]]:
    """Return the milliseconds of each kind of sign-in, in the order of the rounds."""
    attempts: dict[str, Callable[[int], dict[str, str]]] = {
        "unknown": lambda n: {"username": f"nobody{n:03}", "password": PASSWORD},
        "wrong password": lambda n: {"username": f"member{n:03}", "password": "incorrect horse"},
        "disabled": lambda n: {"username": f"disabled{n:03}", "password": PASSWORD},
    }
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(-ACCOUNTS, logins):  # the first are to warm up
        for kind in random.sample(KINDS, len(KINDS)):
            body = attempts[kind](number % ACCOUNTS)
            started = time.perf_counter()
            status = post(connection, "login", body)
            elapsed_ms = (time.perf_counter() - started) * 1000
            assert status == 401, status
            if number >= 0:
                times[kind].append(elapsed_ms)
    return times


def mann_whitney(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return the two-sided p of a Mann-Whitney test, and the share of pairs first > second.

    It uses the normal approximation with the correction for ties.
    """
    ranks, ties = {}, 0
    position = 0
    for value, group in itertools.groupby(sorted(first + second)):
        count = len(list(group))
        ranks[value] = position + (count + 1) / 2
        ties += count**3 - count
        position += count
    n, m = len(first), len(second)
    u = sum(ranks[value] for value in first) - n * (n + 1) / 2
    total = n + m
    deviation = math.sqrt(n * m / 12 * (total + 1 - ties / (total * (total - 1))))
    z = max(0.0, abs(u - n * m / 2) - 0.5) / deviation
    return math.erfc(z / math.sqrt(2)), u / (n * m)


def print_figures(times: dict[str, list[float]], title: str) -> bool:
    """Print the figures; return whether all medians are within the target."""
    print(title)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    for kind, values in times.items():
        low, _, high = statistics.quantiles(values, n=4)
        print(
            f"  {kind:15} median {medians[kind]:8.2f} ms   middle half {low:8.2f} to {high:8.2f} ms"
        )
    within = True
    for first, second in itertools.combinations(KINDS, 2):
        ratio = medians[first] / medians[second]
        p, share = mann_whitney(times[first], times[second])
        within = within and abs(ratio - 1) <= TARGET
        print(
            f"  {first} / {second}: ratio {ratio:.4f}, Mann-Whitney p {p:.3f}, longer in {share:.1%} of pairs"
        )
    print(f"  medians within {TARGET:.0%}: {'yes' if within else 'NO'}")
    return within


def main() -> None:
    """Measure and print; exit with status 1 if medians differ by more than the target."""
    parser = report.parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=300, help="of each kind (default 300)")
    parser.add_argument(
        "--cost", type=int, default=10, help="of bcrypt (default 10; a lower one is a harder test)"
    )
    parser.add_argument("--scheme", choices=["bcrypt", "argon2id"], default="bcrypt")
    options = parser.parse_args()
    if options.logins < 2:
        parser.error("at least 2 sign-ins of each kind")
    with devnest(f"--hash-cost={options.cost}", f"--hash-scheme={options.scheme}") as (
        port,
        data_dir,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        prepare(connection, data_dir)
        times = measure(connection, options.logins)
        connection.close()
    work = f"bcrypt cost {options.cost}" if options.scheme == "bcrypt" else "argon2id"
    sys.exit(
        0
        if print_figures(times, f"{options.logins} sign-ins of each kind, {work}, no limits")
        else 1
    )


if __name__ == "__main__":
    report.run(main)
