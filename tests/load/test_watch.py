"""What a target does meanwhile: its metrics, sampled once a second, whatever it answers."""

import asyncio
from dataclasses import replace

import pytest

from devnest.load import watch as watch_module
from devnest.load.target import Target
from devnest.load.watch import Watch
from tests.load.targets import Request, answer, serving

PLAIN = "text/plain"


def metrics(
    *, late_s: float, timers: int, cpu_s: float, calls: int, batches: int, pid: int = 7
) -> bytes:
    """Return metrics as DevNest writes them, with lines of others between."""
    return f"""# HELP event_loop_lag_seconds How late the event loop was for a timer
event_loop_lag_seconds_bucket{{process="server-0",le="0.1"}} 3
event_loop_lag_seconds_sum{{process="server-0"}} {late_s}
event_loop_lag_seconds_count{{process="server-0"}} {timers}
event_loop_lag_seconds_sum{{process="server-1"}} 0
event_loop_lag_seconds_count{{process="server-1"}} {timers}
event_loop_lag_seconds_sum{{process="pool"}} {100 * late_s}
event_loop_lag_seconds_count{{process="pool"}} {timers}
process_cpu_seconds_total{{pid="1",process="server-0"}} {cpu_s}
process_cpu_seconds_total{{pid="2",process="server-1"}} {cpu_s}
process_cpu_seconds_total{{pid="{pid}",process="worker"}} {cpu_s}
pool_queued{{priority="0"}} 3
pool_queued{{priority="5"}} 4
pool_batch_size_sum {calls}
pool_batch_size_count {batches}
pool_refused_total{{reason="full"}} {calls}
odd{{x="1"}} NaN
odd not-a-number
""".encode()


async def watched(answers: list[bytes], samples: int = 1) -> Watch:
    """Return a watch that has asked until it had that many samples, or had a reason for none."""
    left = list(answers)

    async def handler(_: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        return False

    async with serving(handler) as target:
        aimed = await Target.parse(target.url).reached()
        watch = Watch(replace(aimed, base_path="/metrics"))
        task = asyncio.create_task(watch.run())
        while len(watch.samples) < samples and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert {request.path for request in target.requests} == {"/metrics"}
    return watch


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL_S", 0.05)


def ok(body: bytes) -> bytes:
    return answer(200, body, content_type=PLAIN)


async def test_a_sample_is_the_growth_between_two_looks() -> None:
    first = metrics(late_s=1.0, timers=10, cpu_s=5.0, calls=100, batches=50)
    second = metrics(late_s=3.0, timers=14, cpu_s=5.5, calls=120, batches=54)
    (sample,) = (await watched([ok(first), ok(second)])).samples
    assert sample.lag_ms == 500  # of the slowest server; the pool does not count
    assert sample.cores["servers"] == pytest.approx(2 * sample.cores["workers"], rel=0.01)
    assert (sample.queued, sample.batch, sample.refused) == (7, 5, 20)
    assert sample.second > 0


async def test_a_target_that_started_again_counts_from_zero() -> None:
    first = metrics(late_s=9.0, timers=90, cpu_s=50.0, calls=900, batches=500)
    second = metrics(late_s=0.5, timers=5, cpu_s=0.0, calls=8, batches=4, pid=8)
    (sample,) = (await watched([ok(first), ok(second)])).samples
    assert (sample.lag_ms, sample.batch, sample.refused) == (100, 2, 8)
    assert min(sample.cores.values()) >= 0


async def test_without_a_timer_or_a_batch_there_is_no_mean() -> None:
    same = metrics(late_s=1.0, timers=10, cpu_s=5.0, calls=100, batches=50)
    (sample,) = (await watched([ok(same), ok(same)])).samples
    assert (sample.lag_ms, sample.batch) == (None, None)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer(404), "status 404 at /metrics"),
        (answer(503), "status 503 at /metrics"),
        (ok(b"<html>"), "it is no DevNest"),
        (ok(b"go_goroutines 3\n"), "it is no DevNest"),
        (ok(b"\xff\x00" * 1000), "it is no DevNest"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it answered with something other than HTTP"),
        (b"", "the connection was closed within the answer"),
        (ok(b"x" * 100)[:-10], "the connection was closed within the answer"),
        (answer(200, b"x" * (5 << 20)), "more than 4 MiB"),
    ],
    ids=["404", "503", "html", "other", "binary", "ssh", "nothing", "half", "huge"],
)
async def test_a_target_without_metrics_ends_the_sampling_in_words(
    response: bytes, words: str
) -> None:
    watch = await watched([response])
    assert watch.samples == []
    assert watch.reason == f"No metrics of the target: {words}." or words in watch.reason


async def test_a_target_that_goes_away_keeps_its_samples() -> None:
    some = ok(metrics(late_s=1.0, timers=10, cpu_s=5.0, calls=100, batches=50))
    watch = await watched([some, some, answer(404)], samples=2)
    assert len(watch.samples) == 1
    assert "status 404" in watch.reason


async def test_a_target_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "MAX_ANSWER_S", 0.1)

    async def silent(_: Request, __: asyncio.StreamWriter) -> bool:
        await asyncio.Event().wait()
        return False

    async with serving(silent) as target:
        watch = Watch(await Target.parse(target.url).reached())
        await watch.run()
    assert watch.reason == "No metrics of the target: no answer in time."
