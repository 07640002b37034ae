"""The light routes of an earlier commit beside those of today, in one run: did they become dearer?

The commit's sources are run from a temporary directory with this environment's interpreter and packages. Its kernel is
not compiled there, which no light request notices. Needs git's history, and wrk.
"""

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path

from routes import CONNECTIONS, arguments, posts, script, wrk
from running import cpu_use, fresh_directory, serving

ROOT = Path(__file__).resolve().parent.parent
BEFORE_ACCOUNTS = "22be64dd"  # the last commit without sessions, throttling, search and what else the accounts brought
ROUTES = ("POST /posts", "GET /posts (20 posts)")
NOW = "now"


def unpack(commit: str, tree: Path) -> None:
    """Write the sources of a commit into a directory."""
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "src"], capture_output=True, check=False)
    if packed.returncode:
        sys.exit(f"no sources of {commit}: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")


def main() -> None:
    """Measure in turn; print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default=BEFORE_ACCOUNTS, help="default: the last one before the accounts")
    parser.add_argument("--runs", type=int, default=5, help="times each route of each is measured")
    parser.add_argument("--seconds", type=int, default=6, help="length of one measurement")
    parser.add_argument("--processes", type=int, default=1, help="server processes of each")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt install wrk")
    # Only options that the commit has too.
    same = ("--hash-cost=4", "--hash-workers=1", f"--processes={options.processes}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devnest-bench-")))
        unpack(options.commit, directory)
        trees = {options.commit: directory, NOW: ROOT}
        running = {}
        for name, tree in trees.items():
            data_dir = stack.enter_context(fresh_directory())
            environment = {"PYTHONPATH": str(tree / "src")}
            at = stack.enter_context(serving(data_dir, *same, environment=environment))
            running[name] = at, script(at.url, directory / f"{at.port}.lua")
        figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for _ in range(options.runs):
            for route in ROUTES:
                for name, (at, lua) in running.items():
                    with cpu_use(at) as use:
                        rate, p99 = wrk(posts(at), arguments(route, lua), options.seconds)
                    cpu_us = 1e6 * use.seconds["server"] / (rate * options.seconds)
                    figures.setdefault((route, name), []).append((rate, p99, cpu_us))
    print(f"{CONNECTIONS} connections, {options.processes} server(s); medians of {options.runs} runs")
    for (route, name), runs in figures.items():
        rate, p99, cpu_us = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"{route:24} {name:10} {rate:7.0f} requests/s   p99 {p99:6.1f} ms   CPU a request: servers {cpu_us:5.0f} us"
        )
    for route in ROUTES:
        pairs = zip(figures[route, NOW], figures[route, options.commit], strict=True)
        ratios = [(now[0] / then[0], now[2] / then[2]) for now, then in pairs]
        rate, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
        print(f"{route:24} now beside {options.commit}: requests/s x {rate:.2f}, CPU a request x {cpu:.2f}")


if __name__ == "__main__":
    main()
