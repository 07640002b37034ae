"""`PoolExecutor` over each kind of pool, from threads, forks and signal handlers."""

import asyncio
import concurrent.futures
import functools
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devnest.pool import InvalidTask, Pool, PoolClosed, PoolExecutor, WorkerCrashed
from tests.pool import work
from tests.pool.support import ROOT, SAFETY_S, is_running, serving


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another process or thread does."""
    give_up_at = time.monotonic() + SAFETY_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def run_program(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a script; its own functions and this package's are there."""
    script = directory / "program.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SAFETY_S,
    )


@pytest.fixture
def executor() -> Iterator[PoolExecutor]:
    """Return one of two workers."""
    with PoolExecutor(2) as made:
        yield made


def test_keyword_arguments_named_like_those_of_run_reach_the_function(
    executor: PoolExecutor,
) -> None:
    """An executor passes all of them on."""
    given = {"timeout": 1, "deadline": 2, "priority": 3, "key": 4, "func": 5, "self": 6}
    assert executor.submit(work.keywords, **given).result() == given


def test_callables_without_a_name_of_their_own(executor: PoolExecutor) -> None:
    """Partials and bound methods are pickled; functions must be importable."""
    assert executor.submit(functools.partial(work.add, 1), 2).result() == 3
    assert executor.submit("{}-{}".format, 1, 2).result() == "1-2"
    assert list(executor.map(str.upper, "ab")) == ["A", "B"]
    for refused in (lambda: 1, work.coroutine, 5):
        with pytest.raises(InvalidTask):
            executor.submit(refused)  # type: ignore[arg-type]
        with pytest.raises(InvalidTask):
            executor.map(refused, [1], chunksize=2)  # type: ignore[arg-type]


def test_an_argument_that_cannot_be_pickled_fails_its_own_call(executor: PoolExecutor) -> None:
    """By its future, as in the standard library."""
    with pytest.raises(InvalidTask, match="cannot be pickled"):
        executor.submit(work.echo, threading.Lock()).result()
    assert executor.submit(work.add, 1, 1).result() == 2


def test_map_in_chunks(executor: PoolExecutor) -> None:
    """The same results; an exception ends the iterator at its chunk."""
    assert list(executor.map(work.add, range(10), range(10), chunksize=3)) == [*range(0, 20, 2)]
    assert list(executor.map(work.add, [], [], chunksize=3)) == []
    results = executor.map(divmod, [1, 1, 1, 1], [1, 1, 0, 1], chunksize=2)
    assert [next(results), next(results)] == [(1, 0), (1, 0)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(work.echo, [1], chunksize=0)


def test_cancel_ends_running_work(executor: PoolExecutor, tmp_path: Path) -> None:
    """Its worker is killed, those who wait are woken, and the executor goes on."""
    future = executor.submit(work.announce, str(tmp_path / "pid"))
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    assert future.running()
    assert future.cancel()
    assert concurrent.futures.wait([future], timeout=SAFETY_S).done == {future}
    assert future.cancelled()
    wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))
    assert executor.submit(work.add, 1, 1).result() == 2


def test_cancel_of_waiting_work(tmp_path: Path) -> None:
    """It never runs; an answered call is not cancelled."""
    with PoolExecutor(1) as executor:
        gate = tmp_path / "gate"
        first = executor.submit(work.wait_for, str(gate))
        waiting = executor.submit(work.append, str(tmp_path / "ran"), "x")
        assert waiting.cancel()
        gate.touch()
        assert first.result()
        assert not first.cancel()
    assert not (tmp_path / "ran").exists()


def test_shutdown_that_cancels(tmp_path: Path) -> None:
    """The running call is answered, the waiting ones are cancelled."""
    executor = PoolExecutor(1)
    gate, started = tmp_path / "gate", tmp_path / "started"
    running = executor.submit(work.announce_then_wait, str(started), str(gate))
    wait_until(started.exists)
    waiting = [executor.submit(work.echo, n) for n in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert concurrent.futures.wait(waiting, timeout=SAFETY_S).not_done == set()
    gate.touch()
    executor.shutdown()
    assert running.result()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(work.echo, 1)


def test_options(socket_path: Path) -> None:
    """One pool only, and a number of workers that can be."""
    for options in ({"max_workers": 0}, {"url": "http://x"}, {"max_workers": 1, "pool": Pool(1)}):
        with pytest.raises(InvalidTask):
            PoolExecutor(**options)
    PoolExecutor().shutdown()  # never used, so nothing was started


def test_many_threads_and_callbacks(executor: PoolExecutor) -> None:
    """Calls may come from anywhere, also from a callback, which may shut the executor down."""
    inner: list[concurrent.futures.Future[int]] = []
    answered = threading.Event()

    def again(_: object) -> None:
        inner.append(executor.submit(work.add, 2, 2))
        inner[0].add_done_callback(end)

    def end(_: object) -> None:
        executor.shutdown()
        answered.set()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(lambda n: executor.submit(work.add, n, n).result(), range(200)))
    assert sums == [2 * n for n in range(200)]
    executor.submit(work.add, 1, 1).add_done_callback(again)
    assert answered.wait(SAFETY_S)
    assert inner[0].result() == 4


def test_in_a_signal_handler(executor: PoolExecutor) -> None:
    """The thread that the signal interrupts may be inside `submit`."""
    futures: list[concurrent.futures.Future[int]] = []
    before = signal.signal(
        signal.SIGALRM, lambda *_: futures.append(executor.submit(work.add, 1, 1))
    )
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(futures) < 50:
            executor.submit(work.add, 2, 2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert {future.result(SAFETY_S) for future in futures} == {2}


def test_the_death_of_a_worker_fails_its_call_alone(executor: PoolExecutor) -> None:
    """The executor is not broken by it."""
    with pytest.raises(WorkerCrashed):
        executor.submit(work.exit_at_once, 7).result()
    assert executor.submit(work.add, 1, 1).result() == 2


def test_a_lost_executor_leaves_nothing() -> None:
    """Its calls are answered first; the fixture looks for processes and threads."""
    future = PoolExecutor(1).submit(work.add, 1, 1)
    gc.collect()
    assert future.result(SAFETY_S) == 2


async def test_run_in_executor(executor: PoolExecutor, tmp_path: Path) -> None:
    """Cancelling the awaiting task ends the work."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor, work.add, 1, 1) == 2
    started = tmp_path / "pid"
    future = loop.run_in_executor(executor, work.announce, str(started))
    while not (started.exists() and started.read_text()):
        await asyncio.sleep(0.001)
    future.cancel()
    while is_running(int(started.read_text())):
        await asyncio.sleep(0.001)


async def test_a_pool_that_runs_on_this_loop() -> None:
    """Threads use it; it goes on after `shutdown`, and a wait that would never end is refused."""
    async with Pool(1) as pool:
        executor = PoolExecutor(pool=pool)
        result = await asyncio.to_thread(lambda: executor.submit(work.add, 1, 1).result())
        assert result == 2
        future = executor.submit(work.add, 2, 2)
        with pytest.raises(RuntimeError, match="would never end"):
            executor.shutdown()
        assert await asyncio.wrap_future(future) == 4
        await asyncio.to_thread(executor.shutdown)
        assert await pool.run(work.add, 3, 3) == 6
    late = PoolExecutor(pool=pool).submit(work.add, 1, 1)
    with pytest.raises(PoolClosed):
        await asyncio.wrap_future(late)


async def test_several_threads_wait_for_a_shutdown(tmp_path: Path) -> None:
    """Each of them goes on when the calls are answered, also where the pool goes on."""
    go = tmp_path / "go"
    async with Pool(workers=1) as pool:
        executor = PoolExecutor(pool=pool)
        future = executor.submit(work.wait_for, str(go))
        threads = [threading.Thread(target=executor.shutdown, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        executor.shutdown(wait=False)
        await asyncio.sleep(0.1)  # all of them wait
        assert all(thread.is_alive() for thread in threads)
        go.touch()
        await asyncio.wrap_future(future)
        async with asyncio.timeout(SAFETY_S):
            for thread in threads:
                await asyncio.to_thread(thread.join, SAFETY_S / 4)
        assert not any(thread.is_alive() for thread in threads)


def test_a_pool_that_is_not_started() -> None:
    """The executor starts and closes it."""
    pool = Pool(1, kind="thread")
    with PoolExecutor(pool=pool) as executor:
        assert executor.submit(lambda: 5).result() == 5
        assert list(executor.map(lambda n: n, range(5), chunksize=2)) == [*range(5)]
    assert pool.stats().workers == 0


async def test_a_shared_pool(socket_path: Path, tmp_path: Path) -> None:
    """By its address; functions of the main script are refused."""

    def use() -> None:
        with PoolExecutor(url=f"unix://{socket_path}") as executor:
            given = {"timeout": 1, "key": 4}
            assert executor.submit(work.keywords, **given).result() == given
            assert list(executor.map(work.echo, range(5), chunksize=2)) == [*range(5)]
            with pytest.raises(LookupError):
                executor.submit(work.fail, "text").result()
            future = executor.submit(work.announce, str(tmp_path / "pid"))
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            assert future.cancel()
            wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))

    async with serving(socket_path, "--workers", "2"):
        await asyncio.to_thread(use)


def test_a_shared_pool_that_does_not_answer(socket_path: Path) -> None:
    """Calls fail, and a later one tries again."""
    pool = Pool.connect(f"unix://{socket_path}", patience=0.01)
    with PoolExecutor(pool=pool) as executor:
        for _ in range(2):
            with pytest.raises(PoolClosed):
                executor.submit(work.add, 1, 1).result(SAFETY_S)


FORKS = """
import os, sys, threading
from devnest.pool import PoolExecutor
from tests.pool import work

if __name__ == "__main__":
    executor = PoolExecutor(1)
    parent = executor.submit(os.getpid).result()
    child = os.fork()
    own = executor.submit(os.getpid).result()
    assert (own == parent) == (child != 0)
    if child:
        assert os.waitpid(child, 0)[1] == 0
        print("parent done")
"""


def test_fork(tmp_path: Path) -> None:
    """The child gets a pool of its own; both end."""
    answer = run_program(FORKS, tmp_path)
    assert (answer.stdout, answer.stderr, answer.returncode) == ("parent done\n", "", 0)


ORPHAN = """
import os, time
from devnest.pool import PoolExecutor
from tests.pool import work

if __name__ == "__main__":
    executor = PoolExecutor(1)
    worker = executor.submit(os.getpid).result()
    if os.fork() == 0:
        os.close(1)
        os.close(2)
        time.sleep(3600)
    print(worker, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_workers_end_with_their_pool_although_a_forked_child_lives(tmp_path: Path) -> None:
    """The child does not keep the connection on which they notice it."""
    answer = run_program(ORPHAN.replace("3600", "3"), tmp_path)
    assert answer.returncode == -signal.SIGKILL
    began = time.monotonic()
    wait_until(lambda: not is_running(int(answer.stdout)))
    assert time.monotonic() - began < 2  # before the child ends


EXIT = """
import threading, time
from devnest.pool import PoolExecutor
from tests.pool import work

def wait_and_append(path, text):
    time.sleep(0.2)
    work.append(path, text)

if __name__ == "__main__":
    executor = PoolExecutor(1)
    for text in "abc":
        executor.submit(wait_and_append, {path!r}, text)
    {end}
"""


@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "del executor", "1 / 0"])
def test_pending_work_is_finished_when_the_interpreter_ends(tmp_path: Path, end: str) -> None:
    """In whatever way it ends."""
    ran = tmp_path / "ran"
    run_program(EXIT.format(path=str(ran), end=end), tmp_path)
    assert ran.read_text() == "abc"


NO_FILE = """
import os, sys
from devnest.pool import InvalidTask, PoolExecutor
def here(): return 1
class Here: pass
with PoolExecutor(1) as executor:
    try: executor.submit(here)
    except InvalidTask as error: print(error)
    print(executor.submit(os.getpid).result() > 0)
    print(repr(executor.submit(repr, Here()).exception()))

"""


@pytest.mark.parametrize("how", ["-c", "-", "-i"])
def test_functions_of_a_main_module_that_is_no_file(how: str) -> None:
    """Standard input, `python -c` and the interactive interpreter: the error says what to do."""
    given = [sys.executable, *(["-c", NO_FILE] if how == "-c" else [how])]
    text = f"exec({NO_FILE!r})\n" if how == "-i" else NO_FILE
    answer = subprocess.run(
        given, input=text, capture_output=True, text=True, check=False, timeout=SAFETY_S
    )
    assert "put the function in a module and import it" in answer.stdout, answer.stderr
    assert "True" in answer.stdout
    assert "Can't get attribute 'Here'" in answer.stdout
    assert "FileNotFoundError" not in answer.stdout + answer.stderr


@pytest.mark.timeout(600)
def test_the_tests_of_cpython() -> None:
    """Those of its executors pass, where this Python has them."""
    try:
        found = importlib.util.find_spec("test.test_concurrent_futures.executor")
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip("this Python has no test.test_concurrent_futures (3.12 and later have it)")
    answer = subprocess.run(
        [sys.executable, "-m", "tests.pool.cpython_executors"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    counts = json.loads(answer.stdout.splitlines()[-1])
    assert counts["passed"] >= 40
    assert counts["skipped"] == []
