"""Measures POST /posts and GET /posts: requests per second, CPU, and where the time goes.

Needs wrk (Debian's package of that name). DevNest on a new data directory, its PostgreSQL and wrk
all run on this machine and share its cores.
"""

import argparse
import collections
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

import report
from devnest.experiment import DesignFailed, every_design, started
from running import DevNest, cpu_use, devnest

CONNECTIONS = 64
POST = {
    "title": "Hello wrk",
    "body": "A body of ordinary length, as people write them in a forum.",
    "tags": ["python"],
}
SCRIPT = """
wrk.method = "POST"
wrk.body = '{"title":"Hello wrk","body":"A body of ordinary length, as people write them.","tags":["python"]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
"""


def main() -> None:
    """Measure routes and numbers of servers in turn; print medians, and a profile if asked."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="times each route is measured")
    parser.add_argument("--seconds", type=int, default=6, help="length of one measurement")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1], help="server processes; several: the ratio"
    )
    parser.add_argument(
        "--against",
        default="",
        help="another design of `devnest bench`, in the same run (node-piscina)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="one run more of each, sampled by py-spy"
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt install wrk")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devnest-bench-")))
        running = [
            stack.enter_context(devnest("--hash-cost=4", f"--processes={count}"))
            for count in options.processes
        ]
        scripts = [script(at.url, directory / f"{at.port}.lua") for at in running]
        measure(running, scripts, options, stack.enter_context(another(options.against, directory)))


@contextmanager
def another(name: str, directory: Path) -> Iterator[tuple[str, Path] | None]:
    """Run a design; yield the URL of its posts and wrk's script, or `None` without a design."""
    if not name:
        yield None
        return
    if name not in every_design():
        sys.exit(f"there is no design {name!r}")
    try:
        with started(every_design()[name], 4, 0, None) as url:
            yield f"{url}/api/v1/posts", script(url, directory / "another.lua")
    except DesignFailed as error:
        sys.exit(f"{name}: {error}")


def script(url: str, path: Path) -> Path:
    """Make an account and some posts; return the wrk script that posts as this account."""
    account = {
        "username": "bench",
        "email": "bench@example.org",
        "password": "correct horse battery",
    }
    with httpx.Client(base_url=f"{url}/api/v1") as client:
        client.post("/auth/register", json=account).raise_for_status()
        login = {"email": account["email"], "password": account["password"]}
        token = client.post("/auth/login", json=login).raise_for_status().json()["access_token"]
        for _ in range(20):
            client.post(
                "/posts", json=POST, headers={"authorization": f"Bearer {token}"}
            ).raise_for_status()
    path.write_text(SCRIPT % token)
    return path


def measure(
    running: list[DevNest],
    scripts: list[Path],
    options: argparse.Namespace,
    other: tuple[str, Path] | None,
) -> None:
    """Measure both routes of each DevNest and of the other design, in turn."""
    names = ("POST /posts", "GET /posts (20 posts)")
    figures: dict[tuple[str, int], list[tuple[float, float, float, float]]] = (
        collections.defaultdict(list)
    )
    others: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for _ in range(options.runs):
        for name in names:
            if other is not None:
                others[name].append(wrk(other[0], arguments(name, other[1]), options.seconds))
            for at, lua in zip(running, scripts, strict=True):
                with cpu_use(at) as use:
                    rate, p99 = wrk(posts(at), arguments(name, lua), options.seconds)
                us = 1e6 / (rate * options.seconds)
                server_us, postgres_us = use.seconds["server"] * us, use.seconds["PostgreSQL"] * us
                figures[name, len(at.parts("server"))].append((rate, p99, server_us, postgres_us))
    print(f"{CONNECTIONS} connections, {os.cpu_count()} CPUs; medians of {options.runs} runs")
    for (name, servers), runs in figures.items():
        rate, p99, cpu_us, postgres_us = (
            statistics.median(values) for values in zip(*runs, strict=True)
        )
        first = statistics.median(run[0] for run in figures[name, options.processes[0]])
        print(
            f"{name:24} {servers} server(s) {rate:7.0f} requests/s (x {rate / first:.2f})   p99 {p99:6.1f} ms   "
            f"CPU a request: servers {cpu_us:5.0f} us, PostgreSQL {postgres_us:5.0f} us"
        )
    for name, pairs in others.items():
        rate, p99 = (statistics.median(values) for values in zip(*pairs, strict=True))
        best = statistics.median(run[0] for run in figures[name, options.processes[-1]])
        line = f"{rate:7.0f} requests/s (DevNest's x {best / rate:.2f})   p99 {p99:6.1f} ms"
        print(f"{name:24} {options.against} {line}")
    if options.profile:
        for name in names:
            at, lua = running[0], scripts[0]
            pid = at.parts("server")[0].pid
            profile(
                name,
                posts(at),
                arguments(name, lua),
                pid,
                options.seconds,
                lua.with_suffix(".profile"),
            )


def posts(at: DevNest) -> str:
    """Return the URL of the posts."""
    return f"{at.url}/api/v1/posts"


def arguments(name: str, lua: Path) -> list[str]:
    """Return wrk's arguments for a route."""
    return ["-s", str(lua)] if name.startswith("POST") else []


def wrk(url: str, arguments: list[str], seconds: int) -> tuple[float, float]:
    """Return requests per second and the 99th percentile in ms."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *arguments, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        sys.exit(f"wrk saw errors:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate is not None
    assert p99 is not None
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]


def profile(name: str, url: str, arguments: list[str], pid: int, seconds: int, file: Path) -> None:
    """Sample the server under load; print the share of each package, alone and with its callees."""
    load = subprocess.Popen(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *arguments, url],
        stdout=subprocess.DEVNULL,
    )
    spy = [
        str(Path(sys.executable).with_name("py-spy")),
        "record",
        "--native",
        "-r",
        "200",
        "-f",
        "raw",
    ]
    subprocess.run(
        [*spy, "-d", str(seconds - 1), "-o", file, "-p", str(pid)], capture_output=True, check=True
    )
    load.wait()
    own: collections.Counter[str] = collections.Counter()
    functions: collections.Counter[str] = collections.Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not any("_serve" in frame or "run_until_complete" in frame for frame in frames):
            continue  # an idle thread
        places = [
            match[1].split("/")[0]
            for frame in frames
            if (match := re.search(r"\(([a-z_]+/[^:)]*\.pyx?)", frame))
        ]
        own[places[-1] if places else "interpreter"] += int(count)
        for frame in set(frames):
            functions[frame] += int(count)
    total = own.total()
    print(f"\n{name}: share of samples by package of the innermost Python frame")
    for place, samples in own.most_common(8):
        print(f"  {samples / total:6.1%}  {place}")
    print("  and the functions of ours and of PostgreSQL's driver, with what they call")
    for function, samples in functions.most_common(60):
        if re.search(r"\((devnest/(api|store)|asyncpg)", function):
            print(f"  {samples / total:6.1%}  {function}")


if __name__ == "__main__":
    report.run(main)
