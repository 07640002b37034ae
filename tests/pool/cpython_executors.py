"""CPython's own tests of executors, run with `PoolExecutor`.

    python -m tests.pool.cpython_executors

The interpreter needs the package `test.test_concurrent_futures`, which Python has from 3.12 on
where its tests are installed. The last line has the counts as JSON. A test that is not applicable
is not run; the reason stands in `NOT_APPLICABLE`.
"""

import json
import pickle
import sys
import time
import unittest
from collections.abc import Iterator

from test.support.script_helper import assert_python_ok
from test.test_concurrent_futures import executor as executor_tests
from test.test_concurrent_futures import (
    test_as_completed,
    test_deadlock,
    test_process_pool,
    test_shutdown,
    test_thread_pool,
    test_wait,
)
from test.test_concurrent_futures.util import BaseTestCase

from devnest.pool import InvalidTask, NotPicklable, PoolExecutor, WorkerCrashed, WorkerTraceback

ATTRIBUTES = "reads private attributes of ProcessPoolExecutor or ThreadPoolExecutor"
THREADS = "needs an object that workers share with the caller, such as a lock or a closure"
OPTION = "is about an option that PoolExecutor does not have"
OTHER = "a worker's death fails only its own call, so the executor does not become unusable"

NOT_APPLICABLE = {
    "test_default_workers": ATTRIBUTES,
    "test_idle_process_reuse_multiple": ATTRIBUTES,
    "test_idle_process_reuse_one": ATTRIBUTES,
    "test_idle_thread_reuse": ATTRIBUTES,
    "test_processes_terminate": ATTRIBUTES,
    "test_python_finalization_error": ATTRIBUTES,
    "test_saturation": ATTRIBUTES,
    "test_threads_terminate": ATTRIBUTES,
    "test_exit_during_result_unpickle_in_result_handler": ATTRIBUTES,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": ATTRIBUTES,
    "test_executor_map_current_future_cancel": THREADS,
    "test_hang_global_shutdown_lock": THREADS,
    "test_map_submits_without_iteration": THREADS,
    "test_pending_calls_race": THREADS,
    "test_ressources_gced_in_workers": THREADS,
    "test_max_tasks_early_shutdown": OPTION,
    "test_max_tasks_per_child": OPTION,
    "test_max_tasks_per_child_defaults_to_spawn_context": OPTION,
    "test_max_workers_too_large": OPTION,
    "test_thread_names_assigned": OPTION,
    "test_thread_names_default": OPTION,
    "test_killed_child": OTHER,
}


class PoolMixin:
    """Gives each test an executor, as the mixins of CPython do."""

    executor_type = PoolExecutor
    worker_count = 5

    def setUp(self) -> None:
        """Start its workers too: some tests expect calls to begin immediately."""
        super().setUp()
        self.executor = PoolExecutor(self.worker_count)
        self.executor.submit(int).result()

    def tearDown(self) -> None:
        """End it."""
        self.executor.shutdown(wait=True)
        del self.executor
        super().tearDown()


class SubmitTest(PoolMixin, executor_tests.ExecutorTest, BaseTestCase):
    pass


class ProcessPoolTest(PoolMixin, test_process_pool.ProcessPoolExecutorTest, BaseTestCase):
    def test_traceback(self) -> None:
        """The same, with the class that DevNest has for a worker's traceback."""
        error = self.executor.submit(self._test_traceback).exception()
        self.assertIs(type(error), RuntimeError)
        self.assertEqual(error.args, (123,))
        self.assertIs(type(error.__cause__), WorkerTraceback)
        self.assertIn("raise RuntimeError(123) # some comment", str(error.__cause__))


class ThreadPoolTest(PoolMixin, test_thread_pool.ThreadPoolExecutorTest):
    executor_type = PoolExecutor


class WaitTest(PoolMixin, test_wait.WaitTests, BaseTestCase):
    test_pending_calls_race = test_wait.ThreadPoolWaitTests.test_pending_calls_race


class AsCompletedTest(PoolMixin, test_as_completed.AsCompletedTests, BaseTestCase):
    pass


START = """if 1:
    import atexit
    {early}
    from devnest.pool import PoolExecutor
    from test.test_concurrent_futures.test_shutdown import sleep_and_print
    if __name__ == "__main__":
        t = PoolExecutor(3)
        {rest}
"""


class ShutdownTest(PoolMixin, test_shutdown.ProcessPoolShutdownTest, BaseTestCase):
    """Programs that CPython's tests print are printed here with this executor's name."""

    def run_program(self, rest: str, early: str = "") -> tuple[bytes, bytes]:
        """Return what it wrote to standard output and error."""
        _, out, err = assert_python_ok(
            "-c", START.format(rest=rest, early=early), PYTHONPATH=":".join(sys.path)
        )
        return out.strip(), err

    def test_interpreter_shutdown(self) -> None:
        self.assertEqual(
            self.run_program("t.submit(sleep_and_print, 1.0, 'apple')"), (b"apple", b"")
        )

    def test_hang_gh83386(self) -> None:
        rest = "t.submit(sleep_and_print, 1.0, 'apple'); t.shutdown(wait=False)"
        self.assertEqual(self.run_program(rest), (b"apple", b""))

    def test_cancel_futures_wait_false(self) -> None:
        rest = "t.submit(sleep_and_print, .1, 'apple'); t.shutdown(wait=False, cancel_futures=True)"
        out, err = self.run_program(rest)
        self.assertFalse(err)
        self.assertIn(out, [b"apple", b""])

    def test_submit_after_interpreter_shutdown(self) -> None:
        # Registered before DevNest is imported, so it is called last.
        early = "atexit.register(lambda: t.submit(id, None))"
        _, err = self.run_program("t.submit(id, 42).result()", early)
        self.assertIn("RuntimeError: cannot schedule new futures", err.decode())

    def test_context_manager_shutdown(self) -> None:
        with PoolExecutor(5) as executor:
            thread = executor.submit(abs, 1) and executor._thread
            self.assertEqual(list(executor.map(abs, range(-5, 5))), [*map(abs, range(-5, 5))])
        self.assertTrue(thread.is_over)

    def test_del_shutdown(self) -> None:
        executor = PoolExecutor(5)
        results = executor.map(abs, range(-5, 5))
        thread = executor._thread
        del executor
        thread.join()
        self.assertEqual(list(results), [*map(abs, range(-5, 5))])

    def test_shutdown_no_wait(self) -> None:
        executor = PoolExecutor(5)
        results = executor.map(abs, range(-5, 5))
        executor.shutdown(wait=False)
        executor._thread.join()
        self.assertEqual(list(results), [*map(abs, range(-5, 5))])

    test_threads_terminate = test_shutdown.ThreadPoolShutdownTest.test_threads_terminate
    test_thread_names_assigned = test_shutdown.ThreadPoolShutdownTest.test_thread_names_assigned
    test_thread_names_default = test_shutdown.ThreadPoolShutdownTest.test_thread_names_default


class DeadlockTest(PoolMixin, test_deadlock.ExecutorDeadlockTest, BaseTestCase):
    """A crash, or an object that does not pickle, fails its own call and hangs nothing."""

    def _check_error(self, error, func, *args, ignore_stderr=False) -> None:
        executor = PoolExecutor(2)
        own = WorkerCrashed, NotPicklable, InvalidTask, pickle.UnpicklingError
        with self.assertRaises((error, *own)):
            executor.submit(func, *args).result(timeout=self.TIMEOUT)
        executor.shutdown(wait=True)

    _check_crash = _check_error

    def test_shutdown_deadlock(self) -> None:
        """A worker dies while `shutdown` waits for it."""
        with PoolExecutor(2) as executor:
            executor.submit(int).result()
            future = executor.submit(test_deadlock._crash, 0.1)
            executor.shutdown(wait=True)
            with self.assertRaises(WorkerCrashed):
                future.result()

    def test_shutdown_deadlock_pickle(self) -> None:
        """An argument fails to pickle while `shutdown` waits."""
        with PoolExecutor(2) as executor:
            executor.submit(int).result()
            future = executor.submit(id, test_deadlock.ErrorAtPickle())
            executor.shutdown(wait=False)
            with self.assertRaises(InvalidTask):
                future.result()
        executor._thread.join()

    def test_crash_big_data(self) -> None:
        """A worker dies with more to read than its socket holds."""
        with PoolExecutor(2) as executor:
            data = "a" * 1_000_000
            for _ in range(3):
                future = executor.submit(test_deadlock._crash_with_data, data)
                with self.assertRaises(WorkerCrashed):
                    future.result(timeout=self.TIMEOUT)


CLASSES = [
    SubmitTest, ProcessPoolTest, ThreadPoolTest, WaitTest, AsCompletedTest, ShutdownTest, DeadlockTest,
]  # fmt: skip


def tests() -> Iterator[unittest.TestCase]:
    """Return every test once: several classes have those of `executor.py`."""
    seen = set()
    for case in CLASSES:
        for name in unittest.TestLoader().getTestCaseNames(case):
            if (key := (getattr(case, name), name)) not in seen:
                seen.add(key)
                yield case(name)


def main() -> int:
    """Run them, and print the counts."""
    suite, left_out = unittest.TestSuite(), {}
    for test in tests():
        name = test.id().rpartition(".")[2]
        if name in NOT_APPLICABLE:
            left_out[test.id().partition(".")[2]] = NOT_APPLICABLE[name]
        else:
            suite.addTest(test)
    began = time.monotonic()
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    counts = {
        "passed": result.testsRun - failed - len(result.skipped),
        "failed": failed,
        "skipped": [reason for _, reason in result.skipped],
        "not_applicable": left_out,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(counts))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
