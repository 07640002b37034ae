"""What processes count, through the shared memory and onto the page, whatever state that memory
is in.
"""

import os

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from devnest.metrics import Metrics, write_page
from devnest.process_registry import Processes, ProcessRegistry
from devnest.shared_memory import MAX_SLOTS, SLOT_BYTES, SharedMemory

ROUTE = 'a "quoted" \\ route\nof two lines'
COUNTED = "http_server_request_duration_seconds_count"


async def counts(metrics: Metrics) -> dict[str, float]:
    """How many requests the page tells of, by route."""
    samples = (
        s
        for f in text_string_to_metric_families((await metrics.page()).decode())
        for s in f.samples
    )
    return {
        sample.labels["http_route"]: sample.value for sample in samples if sample.name == COUNTED
    }


@pytest.fixture
def full() -> SharedMemory:
    """Memory that takes nothing more."""
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("only Linux has a file that is always full")
    return SharedMemory(os.open("/dev/full", os.O_RDWR))


async def test_any_process_tells_of_all() -> None:
    """Counts of equal labels are added up, and labels of any text come out as they are."""
    memory = SharedMemory.create()
    with Metrics(memory, 2, "server-0") as one, Metrics(memory, 3, "server-1") as other:
        for metrics in (one, other, other):
            metrics.request("GET", ROUTE, 200, 0.003)
        one.request("GET", "only", 200, 99.0)
        other.share()
        assert await counts(one) == {ROUTE: 3, "only": 1}


async def test_a_successor_goes_on_with_the_counts() -> None:
    """Of histograms and of counters, as often as there is one.

    A number of the moment is its own.
    """
    memory = SharedMemory.create()
    for life in range(1, 4):
        metrics = Metrics(memory, 2, "server-0")
        metrics.counter("lines_total", "Lines", {}, lambda: 5)
        metrics.gauge("connections", "Connections", {}, lambda: 7)
        metrics.request("GET", "/", 200, 0.003)
        page = (await metrics.page()).decode()
        assert await counts(metrics) == {"/": life}
        assert f"lines_total {5.0 * life!r}\n" in page
        assert "connections 7.0\n" in page


async def test_what_another_process_had_at_the_moment_goes_with_it() -> None:
    """The processes says who lives."""
    memory = SharedMemory.create()
    with Metrics(memory, 2, "server-0") as metrics:
        metrics.gauge("connections", "Connections", {}, lambda: 7)
        numbers = list(metrics._of_all(metrics.share()))
    assert (
        "connections 7.0" in write_page(numbers, Processes({"server-0": os.getpid()}), -1).decode()
    )
    assert "connections" not in write_page(numbers, Processes({"server-0": 1}), -1).decode()


@pytest.mark.parametrize("damage", [os.urandom(4000), bytes(4000), b"\xff" * 4000])
async def test_damaged_numbers_are_left_out_and_told_once(damage: bytes) -> None:
    """The others' stay; the next share of that process is whole again."""
    memory = SharedMemory.create()
    ProcessRegistry(memory).started("server-0", os.getpid())
    with Metrics(memory, 2, "server-0") as here, Metrics(memory, 3, "server-1") as there:
        here.request("GET", "here", 200, 0.1)
        there.request("GET", "there", 200, 0.1)
        there.share()
        for slot in (0, 3, MAX_SLOTS - 1):
            for place in (0, 64, 64 + SLOT_BYTES // 2):
                os.pwrite(memory.fd, damage, slot * SLOT_BYTES + place)
        with capture_logs() as logs:
            assert (await counts(here))["here"] == 1
            assert (await counts(here))["here"] == 1
        assert len(logs) <= 2, "each slot once"
        there.share()
        assert await counts(here) == {"here": 1, "there": 1}


async def test_numbers_of_another_release_are_left_out() -> None:
    """After an upgrade and a rolling restart, servers of both run for a while."""
    memory = SharedMemory.create()
    memory.write(3, b"\x93\x01\x02\x03")
    with Metrics(memory, 2, "server-0") as here, capture_logs() as logs:
        here.request("GET", "/", 200, 0.1)
        assert await counts(here) == {"/": 1}
        with Metrics(memory, 3, "server-1"):
            assert await counts(here) == {"/": 1}
    assert [line["event"] for line in logs] == [
        "metrics of a process left out",
        "metrics begin anew",
    ]


async def test_without_memory_a_process_tells_of_itself(full: SharedMemory) -> None:
    """And says once that it cannot tell the others."""
    with capture_logs() as logs, Metrics(full, 2, "server-0") as metrics:
        metrics.request("GET", "/", 200, 0.1)
        for _ in range(3):
            assert await counts(metrics) == {"/": 1}
    assert [line["event"] for line in logs] == ["metrics not shared"]


def test_a_supervisor_without_memory_goes_on(full: SharedMemory) -> None:
    """And says so once."""
    registry = ProcessRegistry(full)
    with capture_logs() as logs:
        registry.started("server-0", 1)
        registry.died("server-0")
        registry.left("server-0")
    assert [line["event"] for line in logs] == ["metrics not shared"]
