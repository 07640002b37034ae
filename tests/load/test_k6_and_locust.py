"""The profiles for k6 and Locust: both run for some seconds against a real DevNest, and what they
say they sent is what the server has counted.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.metrics import REQUESTS, scrape, total
from tests.support import PATIENCE_S, DevNest, data_directory, eventually, running

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "k6" / "devnest.js"
LOCUSTFILE = ROOT / "benchmarks" / "locust" / "locustfile.py"
BESIDE = Path(sys.executable).with_name("k6")
K6 = str(BESIDE) if BESIDE.exists() else shutil.which("k6")
needs_k6 = pytest.mark.skipif(K6 is None, reason="no k6: there is no package of it for this system")
ROUTES = {
    "prepare": "/api/v1/auth/register",
    "register": "/api/v1/auth/register",
    "login": "/api/v1/auth/login",
    "attack": "/api/v1/auth/login",
    "post": "/api/v1/posts",
    "feed": "/api/v1/posts",
}
METHODS = {"feed": "GET"}  # the others are POST
# Settings of each profile, which both take; and the names of its requests.
PROFILES = {
    "experiment": ({"STAGES": "1s:4,2s:8,1s:0"}, {"register", "login", "post"}),
    "stress": ({"VUS": "8", "RAMP_S": "1", "HOLD_S": "4"}, {"login", "post", "feed"}),
    "flood": ({"FLOOD_S": "3", "CAPACITY": "20"}, {"attack", "login", "post", "feed"}),
}
PREPARED = {"experiment": 0, "stress": 8, "flood": 50}
Sent = Counter[str]
Generator = Callable[[str, str, dict[str, str], Path], Sent]


@pytest.fixture(scope="module")
def target() -> Iterator[DevNest]:
    """A DevNest of its own, as nothing else may send it requests."""
    with data_directory() as data_dir, running(data_dir) as devnest:
        yield devnest


def k6(url: str, profile: str, settings: dict[str, str], directory: Path) -> Sent:
    """What k6 says it has sent, by the name of the requests; none failed."""
    summary = directory / "summary.json"
    given = {"TARGET": url, "PROFILE": profile, **settings}
    options = [part for name, value in given.items() for part in ("-e", f"{name}={value}")]
    quiet = ["--quiet", "--no-usage-report", "--address=", f"--summary-export={summary}"]
    assert K6 is not None
    done = run(K6, "run", *quiet, *options, str(SCRIPT))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(summary.read_text())
    metrics = found["metrics"]
    checks = found["root_group"]["checks"]
    assert {name: check["fails"] for name, check in checks.items() if check["fails"]} == {}
    assert metrics["http_req_failed"]["passes"] == 0
    sent = Counter(
        {name: metrics.get(f"http_reqs{{name:{name}}}", {}).get("count", 0) for name in ROUTES}
    )
    assert sent.total() == metrics["http_reqs"]["count"], "a request without a name of the table"
    return +sent


def locust(url: str, profile: str, settings: dict[str, str], directory: Path) -> Sent:
    """The same of Locust; what it made before the run it does not count."""
    command = ["-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--json", "-H", url]
    environment = {"PROFILE": profile, **settings}
    done = run(sys.executable, *command, environment=environment, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert [row for row in rows if row["num_failures"]] == []
    sent = Counter({row["name"]: row["num_requests"] for row in rows})
    return sent + Counter(prepare=PREPARED[profile])


def run(
    *command: str, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environment or {})}, capture_output=True, text=True,
        timeout=PATIENCE_S,
    )  # fmt: skip


def counted(url: str) -> Counter[tuple[str, str]]:
    """What the server has counted, by method and route."""
    page = scrape(url)
    kinds = {(METHODS.get(name, "POST"), route) for name, route in ROUTES.items()}
    return Counter(
        {
            (method, route): int(
                total(page, f"{REQUESTS}_count", http_request_method=method, http_route=route)
            )
            for method, route in kinds
        }
    )


def says_what_was_counted(generator: Generator, url: str, profile: str, *rest: Any) -> Sent:
    """Run a generator; what it says is what the server has counted, by route. Return that."""
    before = counted(url)
    sent = generator(url, profile, *rest)
    by_route: Counter[tuple[str, str]] = Counter()
    for name, count in sent.items():
        by_route[METHODS.get(name, "POST"), ROUTES[name]] += count
    # A server counts a request after it has sent the answer.
    eventually(lambda: (counted(url) - before).total() >= by_route.total())
    assert counted(url) - before == by_route
    return sent


@pytest.mark.parametrize("generator", [pytest.param(k6, marks=needs_k6), locust])
@pytest.mark.parametrize("profile", PROFILES)
def test_what_it_says_is_what_the_server_counted(
    target: DevNest, tmp_path: Path, profile: str, generator: Generator
) -> None:
    settings, names = PROFILES[profile]
    sent = says_what_was_counted(generator, target.url, profile, settings, tmp_path)
    assert set(sent) - {"prepare"} == names
    assert sent["prepare"] == PREPARED[profile]


@pytest.mark.parametrize("generator", [pytest.param(k6, marks=needs_k6), locust])
def test_requests_under_way_at_the_end_are_counted(tmp_path: Path, generator: Generator) -> None:
    """All users wait for slow hashes when the time is up."""
    with data_directory() as data_dir, running(data_dir, "--hash-cost=12") as devnest:
        settings = {"STAGES": "0.5s:16,2s:16"}
        sent = says_what_was_counted(generator, devnest.url, "experiment", settings, tmp_path)
    assert sent["register"]


@pytest.mark.parametrize("generator", [pytest.param("k6", marks=needs_k6), "locust"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PROFILE": "none"}, "PROFILE is experiment, stress or flood, not none"),
        ({"STAGES": "10:5"}, "not a stage: '10:5' (write SECONDSs:VUS, as in "),
        ({"PROFILE": "stress", "VUS": "2"}, "cannot make the accounts: "),  # nobody listens there
    ],
)
def test_mistakes_are_told(generator: str, settings: dict[str, str], message: str) -> None:
    nowhere = "http://127.0.0.1:1"
    if generator == "k6":
        options = {"TARGET": nowhere, **settings}
        given = [part for name, value in options.items() for part in ("-e", f"{name}={value}")]
        assert K6 is not None
        done = run(K6, "run", "--quiet", "--no-usage-report", "--address=", *given, str(SCRIPT))
    else:
        command = ["-m", "locust", "-f", str(LOCUSTFILE), "--headless", "-H", nowhere]
        done = run(sys.executable, *command, environment=settings)
    assert done.returncode != 0
    assert message in done.stderr


@needs_k6
def test_both_are_put_beside_each_other() -> None:
    """`make bench-k6`: its exit status tells whether a count differs from the server's."""
    done = run(
        sys.executable, "benchmarks/generators.py", "--runs=1", "--profile=stress", "--seconds=7",
        "--vus=6", "--cost=4", cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:26].strip(): line[26:].split() for line in done.stdout.splitlines()[4:]}
    assert rows["requests"][:2] == rows["counted by the server"][:2]
    assert rows["failed"] == ["0.00", "0.00", "-"]
    assert all(float(value) > 0 for value in rows["CPU, s"])
