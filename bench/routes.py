"""Requests per second of POST /posts and GET /posts, the CPU of a request, and where the time goes.

Needs wrk (Debian's package of that name). Everything runs on this machine: DevNest on a fresh data directory, its
PostgreSQL, and wrk; each takes a share of the cores.
"""

import argparse
import collections
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import psutil

CONNECTIONS = 64
POST = {"title": "Hello wrk", "body": "A body of ordinary length, as people write them in a forum.", "tags": ["python"]}
SCRIPT = """
wrk.method = "POST"
wrk.body = '{"title":"Hello wrk","body":"A body of ordinary length, as people write them.","tags":["python"]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
"""


def main() -> None:
    """Measure, alternating between the two routes; print medians, and with `--profile` the profile of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="times each route is measured")
    parser.add_argument("--seconds", type=int, default=6, help="length of one measurement")
    parser.add_argument("--processes", type=int, default=1, help="server processes")
    parser.add_argument("--profile", action="store_true", help="one run more of each, sampled by py-spy")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt install wrk")
    with tempfile.TemporaryDirectory(prefix="devnest-bench-") as directory:
        Path(directory).chmod(0o711)
        server = subprocess.Popen(
            [sys.executable, "-m", "devnest", "serve", "--port=0", "--hash-cost=4", f"--data-dir={directory}/d",
             f"--processes={options.processes}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            lua = script(url, Path(directory))
            measure(f"{url}/api/v1/posts", lua, psutil.Process(server.pid), options)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def script(url: str, directory: Path) -> Path:
    """Make an account and some posts; the wrk script that posts as it."""
    account = {"username": "bench", "email": "bench@example.org", "password": "correct horse battery"}
    with httpx.Client(base_url=f"{url}/api/v1") as client:
        client.post("/auth/register", json=account).raise_for_status()
        login = {"username": account["username"], "password": account["password"]}
        token = client.post("/auth/login", json=login).raise_for_status().json()["access_token"]
        for _ in range(20):
            client.post("/posts", json=POST, headers={"authorization": f"Bearer {token}"}).raise_for_status()
    path = directory / "post.lua"
    path.write_text(SCRIPT % token)
    return path


def measure(url: str, lua: Path, devnest: psutil.Process, options: argparse.Namespace) -> None:
    """Both routes in turn."""
    routes = {"POST /posts": ["-s", str(lua)], "GET /posts (20 posts)": []}
    figures: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in routes}
    for _ in range(options.runs):
        for name, arguments in routes.items():
            before = cpu_s(devnest)
            rate, p99 = wrk(url, arguments, options.seconds)
            us = 1e6 / (rate * options.seconds)
            server_us, postgres_us = ((now - then) * us for now, then in zip(cpu_s(devnest), before, strict=True))
            figures[name].append((rate, p99, server_us, postgres_us))
    size = f"{options.processes} server(s), {CONNECTIONS} connections, {os.cpu_count()} CPUs"
    print(f"{size}; medians of {options.runs} runs")
    for name, runs in figures.items():
        rate, p99, cpu_us, postgres_us = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"{name:24} {rate:7.0f} requests/s   p99 {p99:6.1f} ms   "
            f"CPU a request: server {cpu_us:5.0f} us, PostgreSQL {postgres_us:5.0f} us"
        )
    if options.profile:
        for name, arguments in routes.items():
            profile(name, url, arguments, servers(devnest)[0].pid, options.seconds, lua.with_suffix(".profile"))


def servers(devnest: psutil.Process) -> list[psutil.Process]:
    """The server processes."""
    return [child for child in devnest.children() if "devnest.cluster.server" in child.cmdline()]


def cpu_s(devnest: psutil.Process) -> tuple[float, float]:
    """The seconds of CPU that the servers have used, and PostgreSQL."""
    postgres = [child for child in devnest.children(recursive=True) if child.name() == "postgres"]
    used = [[sum(process.cpu_times()[:2]) for process in part] for part in (servers(devnest), postgres)]
    return sum(used[0]), sum(used[1])


def wrk(url: str, arguments: list[str], seconds: int) -> tuple[float, float]:
    """Requests per second and the 99th percentile in ms."""
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
    """Sample the server under load; print the share of samples in each package, itself and with what it calls."""
    load = subprocess.Popen(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *arguments, url], stdout=subprocess.DEVNULL
    )
    spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--native", "-r", "200", "-f", "raw"]
    subprocess.run([*spy, "-d", str(seconds - 1), "-o", file, "-p", str(pid)], capture_output=True, check=True)
    load.wait()
    own: collections.Counter[str] = collections.Counter()
    functions: collections.Counter[str] = collections.Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not any("_serve" in frame or "run_until_complete" in frame for frame in frames):
            continue  # an idle thread
        places = [
            match[1].split("/")[0] for frame in frames if (match := re.search(r"\(([a-z_]+/[^:)]*\.pyx?)", frame))
        ]
        own[places[-1] if places else "interpreter"] += int(count)
        for frame in set(frames):
            functions[frame] += int(count)
    total = own.total()
    print(f"\n{name}: share of samples by package of the innermost Python frame")
    for place, count in own.most_common(8):
        print(f"  {count / total:6.1%}  {place}")
    print("  and the functions of ours and of PostgreSQL's driver, with what they call")
    for frame, count in functions.most_common(60):
        if re.search(r"\((devnest/(api|store)|asyncpg)", frame):
            print(f"  {count / total:6.1%}  {frame}")


if __name__ == "__main__":
    main()
