"""`/metrics` and `/readyz` of real clusters, read as Prometheus reads them."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.metrics import (
    REQUESTS,
    SERVERS,
    Page,
    directories,
    named,
    pids,
    requests,
    scrape,
    telling_servers,
    total,
    until,
)
from tests.support import PASSWORD, DevNest, eventually, http, running, sign_up


@contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """Processes that hang."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a worker whose task nobody waits for is replaced
                process.resume()


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevNest]:
    """Two servers, for tests that leave them as they were."""
    from tests.support import data_directory

    with data_directory() as data_dir, running(data_dir, "--processes", "2") as devnest:
        yield devnest


def test_any_server_tells_of_all(cluster: DevNest) -> None:
    """40 requests over as many connections are 40, whoever is asked."""
    before = requests(scrape(cluster.url), "GET", "/healthz", 200)
    for _ in range(40):
        http.get(f"{cluster.url}/healthz")
    until(cluster.url, lambda page: requests(page, "GET", "/healthz", 200) == before + 40)
    for _ in range(20):
        assert requests(scrape(cluster.url), "GET", "/healthz", 200) == before + 40


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        (
            "GET",
            "/api/v1/posts/00000000-0000-7000-8000-000000000001",
            ("GET", "/api/v1/posts/{post_id}", 404),
        ),
        ("GET", "/api/v1/posts?limit=1", ("GET", "/api/v1/posts", 200)),
        ("GET", "/api/v1/posts/", ("GET", "/api/v1/posts", 200)),
        ("GET", "/nowhere/at/all", ("GET", "none", 404)),
        ("PROPFIND", "/healthz", ("_OTHER", "none", 405)),
        ("POST", "/api/v1/posts", ("POST", "/api/v1/posts", 401)),
    ],
)
def test_a_request_counts_under_its_template(
    cluster: DevNest, method: str, path: str, counted: tuple[str, str, int]
) -> None:
    """Never under its path: who invents paths or methods makes no new labels."""
    before = requests(scrape(cluster.url), *counted)
    http.request(method, cluster.url + path)
    page = until(cluster.url, lambda page: requests(page, *counted) == before + 1)
    routes = {dict(labels)["http_route"] for name, labels in page if name == f"{REQUESTS}_count"}
    assert not [
        route
        for route in routes
        if "0000" in route or "nowhere" in route or "?" in route or route[-1] == "/"
    ]
    assert not [
        labels for _, labels in page if dict(labels).get("http_request_method") == "PROPFIND"
    ]


def test_the_buckets_can_prove_the_published_figures(cluster: DevNest) -> None:
    """66 and 96 ms are bounds; the last bucket holds all."""
    http.get(f"{cluster.url}/healthz")
    page = until(cluster.url, lambda page: requests(page, "GET", "/healthz", 200) > 0)
    series = {"http_route": "/healthz", "http_response_status_code": "200"}
    counts = [
        total(page, f"{REQUESTS}_bucket", le=bound, **series)
        for bound in ("0.05", "0.066", "0.096", "+Inf")
    ]
    assert counts == sorted(counts)
    assert counts[-1] == requests(page, "GET", "/healthz", 200)
    bounds = {dict(labels)["le"] for name, labels in page if name == f"{REQUESTS}_bucket"}
    assert {"0.066", "0.096"} <= bounds


def test_every_process_and_part_is_there(cluster: DevNest, username: str) -> None:
    """CPU, memory, lag, the database's connections, the pool's times, the running request."""
    before = scrape(cluster.url)
    with cluster.client() as client:
        sign_up(client, username)
    page = until(cluster.url, lambda page: requests(page, "POST", "/api/v1/auth/login", 200) > 0)
    family = {process.pid for process in cluster.descendants()} | {cluster.process.pid}
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        found = {
            dict(labels)["process"]: value for (what, labels), value in page.items() if what == name
        }
        assert set(found) == {"supervisor", "server-0", "server-1", "pool", "worker", "postgresql"}
        assert all(value > 0 for value in found.values()) or name == "process_cpu_seconds_total"
    assert pids(page, "worker", "server-1") <= family
    until(cluster.url, lambda page: all(
        total(page, "event_loop_lag_seconds_count", process=name) > 1 for name in ("server-0", "server-1", "pool")
    ))  # fmt: skip
    assert total(page, "http_server_active_requests") >= 1
    assert total(page, "db_client_connection_count") >= 2
    waits = "db_client_connection_wait_time_seconds_count"
    assert total(page, waits) >= total(before, waits) + 3
    for name in ("pool_wait_seconds_count", "pool_run_seconds_count", "pool_done_total"):
        assert total(page, name) == total(before, name) + 2
    assert total(page, "pool_up") == 1
    assert total(page, "pool_idle") + total(page, "pool_busy") == len(pids(page, "worker"))
    assert total(page, "pool_mean_batch") >= 1
    assert total(page, "pool_batch_size_sum") == total(before, "pool_batch_size_sum") + 2
    assert total(page, "pool_batch_size_count") == total(page, "pool_batch_size_bucket", le="+Inf")


def test_a_client_that_leaves_during_a_hash_is_no_refusal(cluster: DevNest, username: str) -> None:
    """It counts as 499, and its hash leaves the pool."""
    with cluster.client() as client:
        sign_up(client, username)
    before = scrape(cluster.url)
    address = urlsplit(cluster.url)
    body = f'{{"username": "{username}", "password": "{PASSWORD}"}}'
    head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with stopped(*named(before, "worker")):
        with socket.create_connection((address.hostname, address.port)) as leaving:
            leaving.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            until(cluster.url, lambda page: total(page, "pool_running") == 1)
        page = until(
            cluster.url, lambda page: requests(page, "POST", "/api/v1/auth/login", 499) > 0
        )
    assert requests(page, "POST", "/api/v1/auth/login", 499) == 1
    for status in (500, 503):
        counts = [requests(each, "POST", "/api/v1/auth/login", status) for each in (before, page)]
        assert counts[0] == counts[1]
    assert total(page, "pool_refused_total", reason="full") == total(
        before, "pool_refused_total", reason="full"
    )


def test_a_pool_that_hangs_is_named(cluster: DevNest) -> None:
    """`/readyz` says 503 and which part; `/metrics` goes on with the others."""
    with stopped(*named(scrape(cluster.url), "pool")):
        answer = http.get(f"{cluster.url}/readyz")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        state = answer.json()
        assert (state["status"], state["database"]) == ("unavailable", "ok")
        assert "no answer" in state["pool"]
        page = scrape(cluster.url)
        assert total(page, "pool_up") == 0
        assert total(page, "process_resident_memory_bytes", process="pool") > 0
    eventually(lambda: http.get(f"{cluster.url}/readyz").status_code == 200)


def test_a_database_that_hangs_is_named(cluster: DevNest) -> None:
    """Also where its connections are open and only the answers do not come, and for as many as
    ask.
    """
    postmaster = named(scrape(cluster.url), "postgresql")[0]
    with stopped(postmaster, *postmaster.children()):
        for _ in range(3):
            answer = http.get(f"{cluster.url}/readyz")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "no answer within 2 s" in answer.json()["database"]
            assert answer.json()["pool"] == "ok"
        assert total(scrape(cluster.url), "pool_up") == 1
    eventually(lambda: http.get(f"{cluster.url}/readyz").status_code == 200)


def test_counts_survive_the_death_of_servers_and_no_file_is_left(data_dir: Path) -> None:
    """A killed server's successor goes on with its numbers.

    A rolling restart uses the lowest free name.
    """
    with running(data_dir, "--processes", "2") as devnest:
        for _ in range(30):
            http.get(f"{devnest.url}/healthz")
        page = until(devnest.url, lambda page: requests(page, "GET", "/healthz", 200) == 30)
        for death in range(1, 3):
            named(page, "server-0")[0].kill()
            page = until(devnest.url, lambda page: total(page, "process_restarts_total") == death)  # noqa: B023
            page = until(devnest.url, lambda page: len(pids(page, "server-0")) == 1)
            assert requests(page, "GET", "/healthz", 200) == 30
        assert total(page, "process_restarts_total", process="server-0") == 2
        (directory,) = directories(data_dir)
        assert directory.stat().st_mode & 0o777 == 0o700
        for _ in range(2):
            old = pids(page, *SERVERS)
            devnest.process.send_signal(signal.SIGHUP)
            page = until(devnest.url, partial(_are_replaced, old))
            assert requests(page, "GET", "/healthz", 200) == 30
        counted = {
            dict(labels)["process"]
            for name, labels in page
            if name == "event_loop_lag_seconds_count"
        }
        assert counted == {"server-0", "server-1", "server-2", "pool"}
        # A server that leaves still tells of itself where it is the one that answers; once it has
        # gone nobody does.
        page = until(devnest.url, lambda page: len(telling_servers(page)) == 2)
        assert [file.name for file in directory.iterdir()] == ["pool.sock"]
        assert total(page, "process_restarts_total") == 2, "a rolling restart is no death"
    assert directories(data_dir) == []


def _are_replaced(old: set[int], page: Page) -> bool:
    return len(pids(page, *SERVERS)) == 2 and pids(page, *SERVERS).isdisjoint(old)
