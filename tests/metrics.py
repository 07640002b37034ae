"""`/metrics` as Prometheus reads it, and where the pool's socket is."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support import eventually, http

SERVERS = ("server-0", "server-1", "server-2")
REQUESTS = "http_server_request_duration_seconds"
Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Page:
    """Every sample by its name and labels, over a connection of its own, so that any server may
    answer.
    """
    answer = http.get(f"{url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    page: Page = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in page, f"{key} is told twice"
            page[key] = sample.value
    return page


def total(page: Page, name: str, **labels: str) -> float:
    """The sum of all samples that have these labels."""
    return sum(
        value
        for (found, given), value in page.items()
        if found == name and labels.items() <= dict(given).items()
    )


def requests(page: Page, method: str, route: str, status: int) -> float:
    """How many were counted."""
    return total(
        page, f"{REQUESTS}_count",
        http_request_method=method, http_route=route, http_response_status_code=str(status),
    )  # fmt: skip


def telling_servers(page: Page) -> set[str]:
    """Return the names of the servers that tell of this moment: those that have booted and not
    gone.
    """
    return {
        dict(labels)["process"] for name, labels in page if name == "db_client_connection_count"
    }


def until(url: str, holds: Callable[[Page], bool]) -> Page:
    """Scrape until something holds: what one server tells of another is a quarter of a second
    old.
    """
    page: Page = {}

    def is_there() -> bool:
        nonlocal page
        page = scrape(url)
        return holds(page)

    eventually(is_there)
    return page


def pids(page: Page, *names: str) -> set[int]:
    """The ids of the processes of these names; some may have gone since."""
    return {
        int(dict(labels)["pid"])
        for found, labels in page
        if found == "process_cpu_seconds_total" and dict(labels)["process"] in names
    }


def named(page: Page, name: str) -> list[psutil.Process]:
    """The living processes of that name."""
    return [psutil.Process(pid) for pid in pids(page, name)]


def directories(data_dir: Path) -> list[Path]:
    """Where the pool's socket of the DevNest on a data directory is."""
    name = f"devnest-pool-*-{data_dir.stat().st_ino:x}"
    parents = ("/dev/shm", tempfile.gettempdir())  # noqa: S108 # it is looked at
    return [path for parent in parents for path in Path(parent).glob(name)]
