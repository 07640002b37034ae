"""The scheduler under random histories, and the single decisions that no history shows by
itself.
"""

import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from devnest.pool import (
    DeadlineExceeded,
    PoolClosed,
    PoolError,
    PoolFull,
    TaskTimeout,
    WorkerCrashed,
)
from devnest.pool.core.actions import Action, Answer, Hold, Kill, Reclaim, Send, Start, Stop
from devnest.pool.core.backlog import MAX_COALESCED_CALLS
from devnest.pool.core.limits import Limits, WorkerState
from devnest.pool.core.queue import AGEING_S
from devnest.pool.core.scheduler import Scheduler
from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.core.workers import HOLD_AFTER_S
from devnest.pool.functions import Function
from devnest.pool.runtime.progress import ALL

PLAIN, PURE = Function("m:plain"), Function("m:pure", pure=True)
BATCHED = Function("m:batched", max_size=3)
PURE_BATCHED = Function("m:pure_batched", max_size=4, pure=True)
FUNCTIONS = [PLAIN, PURE, BATCHED, PURE_BATCHED]


class History(RuleBasedStateMachine):
    """Callers, workers and time in any order, with a model that checks every action against what
    was promised.
    """

    @initialize(
        least=st.integers(0, 2),
        extra=st.integers(0, 2),
        max_queue=st.integers(0, 6),
        max_tasks=st.none() | st.integers(1, 5),
        max_age=st.none() | st.floats(1.0, 20.0),
        can_kill=st.booleans(),
    )
    def begin(
        self,
        least: int,
        extra: int,
        max_queue: int,
        max_tasks: int | None,
        max_age: float | None,
        can_kill: bool,
    ) -> None:
        self.now = 100.0
        self.limits = Limits(
            least,
            max(1, least + extra),
            max_queue,
            idle_timeout=2.0,
            max_tasks=max_tasks,
            max_age=max_age,
            boot_timeout=5.0,
            can_kill=can_kill,
            can_coalesce=can_kill,
        )
        self.scheduler = Scheduler(self.limits, self.now, jitter=lambda: 0.5)
        self.tasks: list[Task] = []
        self.answers: dict[Task, object] = {}
        self.gone: set[Task] = set()  # cancelled by their callers
        self.runs: dict[Task, int] = defaultdict(int)
        self.deaths: dict[Task, int] = defaultdict(int)
        self.alive: dict[
            int, str
        ] = {}  # what the engine would know: starting, ready, stopping, killed
        self.batches: dict[
            int, tuple[int, list[Task]]
        ] = {}  # of a worker: the id and tasks of its present batch
        self.old: list[
            tuple[int, int, int]
        ] = []  # batches that are over: their replies would be late
        self.slack = (
            0  # idle workers that died between a submit, which counted on them, and its dispatch
        )

    # What happens.

    @rule(
        function=st.sampled_from(FUNCTIONS),
        key=st.sampled_from("abc"),
        source=st.integers(0, 1),
        priority=st.integers(-1, 1),
        timeout_s=st.just(math.inf) | st.floats(0.1, 5.0),
        deadline_s=st.just(math.inf) | st.floats(-1.0, 10.0),
        at_once=st.booleans(),
    )
    def submit(
        self,
        function: Function,
        key: str,
        source: int,
        priority: int,
        timeout_s: float,
        deadline_s: float,
        at_once: bool,
    ) -> None:
        task = Task(
            function,
            None,
            lambda _: None,
            key=key,
            source=source,
            priority=priority,
            timeout_s=timeout_s,
            deadline_at=self.now + deadline_s,
        )
        try:
            actions = self.scheduler.submit(task, self.now)
        except PoolClosed:
            assert self.scheduler.workers.closing
        except DeadlineExceeded:
            assert task.deadline_at <= self.now
        except PoolFull as full:
            assert 0 < full.retry_after <= 60
        else:
            assert not self.scheduler.workers.closing
            assert task.deadline_at > self.now
            self.tasks.append(task)
            self.perform(actions)
        if at_once:
            self.dispatch()

    @rule(choice=st.randoms(use_true_random=False), orphan=st.booleans())
    def cancel(self, choice: "object", orphan: bool) -> None:
        open_tasks = [
            task for task in self.tasks if task not in self.answers and task not in self.gone
        ]
        if open_tasks:
            task = choice.choice(open_tasks)  # type: ignore[attr-defined]
            self.gone.add(task)
            self.perform(
                self.scheduler.orphan(task, self.now) if orphan else self.scheduler.cancel(task)
            )
            assert task.state is TaskState.DONE

    @rule(seconds=st.floats(0.0, 3.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.dispatch()

    @rule()
    def pass_time_to_the_next_alarm(self) -> None:
        next_at = self.scheduler.next_at()
        if next_at < math.inf:
            self.now = max(self.now, next_at)
            self.dispatch()

    @rule(choice=st.randoms(use_true_random=False))
    def ready(self, choice: "object") -> None:
        starting = [worker for worker, state in self.alive.items() if state == "starting"]
        if starting:
            worker = choice.choice(starting)  # type: ignore[attr-defined]
            self.alive[worker] = "ready"
            self.perform(self.scheduler.ready(worker, self.now))
            self.dispatch()

    @rule(
        choice=st.randoms(use_true_random=False), took=st.floats(0.0, 1.0), rss=st.integers(0, 10)
    )
    def done(self, choice: "object", took: float, rss: int) -> None:
        if self.batches:
            worker = choice.choice(sorted(self.batches))  # type: ignore[attr-defined]
            batch_id, batch = self.batches.pop(worker)
            self.now += took
            self.old.append((worker, batch_id, len(batch)))
            answers = [("reply", batch_id, task) for task in batch]
            self.perform(self.scheduler.done(worker, batch_id, answers, self.now, rss=rss))
            self.dispatch()

    @precondition(lambda self: self.old)
    @rule(choice=st.randoms(use_true_random=False))
    def late_reply(self, choice: "object") -> None:
        worker, batch_id, size = choice.choice(self.old)  # type: ignore[attr-defined]
        assert self.scheduler.done(worker, batch_id, ["late"] * size, self.now) == []

    @rule(
        choice=st.randoms(use_true_random=False), begun=st.integers(-1, 20), at_once=st.booleans()
    )
    def died(self, choice: "object", begun: int, at_once: bool) -> None:
        if self.alive:
            worker = choice.choice(sorted(self.alive))  # type: ignore[attr-defined]
            del self.alive[worker]
            batch_id, batch = self.batches.pop(worker, (0, []))
            begun = ALL if batch and batch[0].function.max_size and begun >= 0 else begun
            for index, task in enumerate(batch):
                self.deaths[task] += index <= begun
            if batch_id:
                self.old.append((worker, batch_id, len(batch)))
            self.slack += 1
            self.perform(self.scheduler.died(worker, "was told to", self.now, begun=begun))
            if at_once:
                self.dispatch()

    @rule(least=st.integers(0, 3), extra=st.integers(0, 2))
    def resize(self, least: int, extra: int) -> None:
        limits = Limits(
            least, max(1, least + extra), self.limits.max_queue, can_kill=self.limits.can_kill
        )
        self.perform(self.scheduler.resize(limits))
        self.dispatch()

    @precondition(lambda self: len(self.tasks) > 10)
    @rule(force=st.booleans())
    def close(self, force: bool) -> None:
        self.perform(self.scheduler.close(force=force))
        self.dispatch()

    # What must hold.

    def dispatch(self) -> None:
        self.perform(self.scheduler.dispatch(self.now))
        assert len(self.scheduler.backlog.queue) <= self.limits.max_queue + self.slack
        if len(self.scheduler.backlog.queue) <= self.limits.max_queue:
            self.slack = 0

    def perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Answer):
                self.answered(action.task, action.answer)
            elif isinstance(action, Send):
                self.sent(action)
            elif isinstance(action, Start):
                assert action.worker_id not in self.alive
                self.alive[action.worker_id] = "starting"
            elif isinstance(action, Stop):
                assert self.alive[action.worker_id] == "ready"
                assert action.worker_id not in self.batches, "a busy worker was stopped"
                self.alive[action.worker_id] = "stopping"
            elif isinstance(action, Kill):
                if action.worker_id in self.batches:
                    batch_id, batch = self.batches.pop(action.worker_id)
                    self.old.append((action.worker_id, batch_id, len(batch)))
                self.alive[action.worker_id] = "killed"
            elif isinstance(action, Reclaim):
                batch_id, batch = self.batches[action.worker_id]
                self.batches[action.worker_id] = batch_id, batch[:1]
                self.perform(self.scheduler.held(action.worker_id, batch_id, 0))
            else:
                assert isinstance(action, Hold)

    def answered(self, task: Task, answer: object) -> None:
        assert task not in self.answers, "answered twice"
        assert task not in self.gone, "answered after it was cancelled"
        self.answers[task] = answer
        if isinstance(answer, DeadlineExceeded):
            running = any(task in batch for _, batch in self.batches.values())
            assert task.deadline_at <= self.now or (not running and task.start_by <= self.now)
        elif isinstance(answer, TaskTimeout):
            assert task.run_until <= self.now
        elif isinstance(answer, WorkerCrashed) and "no worker can be started" in str(answer):
            assert "ready" not in self.alive.values(), "a worker could have run it"
        elif isinstance(answer, WorkerCrashed):
            assert self.deaths[task] == (2 if task.function.pure else 1)
        elif isinstance(answer, tuple):
            assert answer[2] is task, "another task's reply"
        else:
            assert isinstance(answer, PoolFull | PoolClosed)

    def sent(self, send: Send) -> None:
        assert self.alive[send.worker_id] == "ready", "sent to a worker that is not ready"
        assert send.worker_id not in self.batches, "two batches for one worker"
        functions = {task.function for task in send.batch}
        assert len(functions) == 1
        assert 1 <= len(send.batch) <= (functions.pop().max_size or MAX_COALESCED_CALLS)
        for task in send.batch:
            assert task.state is TaskState.RUNNING
            assert task not in self.answers
            assert task not in self.gone
            assert task.deadline_at > self.now, "expired work was sent"
            self.runs[task] += 1
            if self.runs[task] == 1:
                self.check_order(task)
            else:
                assert len(send.batch) == 1, "a task that is sent again goes alone"
        self.batches[send.worker_id] = send.batch_id, list(send.batch)

    def check_order(self, task: Task) -> None:
        """First in, first out inside a source, key and priority."""
        line = [
            other
            for other in self.tasks
            if (other.source, other.key, other.priority) == (task.source, task.key, task.priority)
        ]
        for other in line[: line.index(task)]:
            assert self.runs[other] or other in self.answers or other in self.gone, (
                "an earlier one still waits"
            )

    @invariant()
    def every_task_is_somewhere(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        waiting = {*self.scheduler.backlog.queue, *self.scheduler.backlog.retries}
        running = {
            task
            for _, batch in self.batches.values()
            for task in batch
            if task.state is TaskState.RUNNING
        }
        assert len(waiting) == self.scheduler.waiting
        for task in self.tasks:
            places = (
                (task in waiting) + (task in running) + (task in self.answers) + (task in self.gone)
            )
            assert places == 1, f"{task!r} is in {places} places"
            assert (task in waiting) == (task.state is TaskState.WAITING)

    @invariant()
    def lines_are_as_long_as_they_say(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        queue = self.scheduler.backlog.queue
        lengths = Counter(map(owner, queue))
        assert queue.longest_length() == max(lengths.values(), default=0)
        for source, key in itertools.product(range(2), "abc"):
            assert queue.length_of(source, key) == lengths[source, key]
        if queue:
            last = queue.newest_of_longest()
            waiting = set(queue)
            line = [task for task in self.tasks if task in waiting and owner(task) == owner(last)]
            assert len(line) == queue.longest_length()
            assert last == max(line, key=lambda task: (task.priority, line.index(task)))

    @invariant()
    def workers_are_within_bounds(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        workers = self.scheduler.workers
        groups = [workers.starting, workers.idle, workers.busy]
        assert sum(len(group) for group in groups) == len(
            {worker for group in groups for worker in group}
        )
        assert set(workers.all) == set(self.alive)
        assert {worker for worker in workers.busy if workers.busy[worker].batch} >= set(
            self.batches
        )

    def teardown(self) -> None:
        """Close, let every worker answer or end, and find that everything is answered and
        nothing is left.
        """
        if not hasattr(self, "scheduler"):
            return
        self.perform(self.scheduler.close(force=False))
        for _ in range(1000):
            self.dispatch()
            if self.scheduler.ended:
                break
            for worker, (batch_id, batch) in list(self.batches.items()):
                del self.batches[worker]
                answers = [("reply", batch_id, task) for task in batch]
                self.perform(self.scheduler.done(worker, batch_id, answers, self.now))
            for worker, state in list(self.alive.items()):
                if state == "starting":
                    self.alive[worker] = "ready"
                    self.perform(self.scheduler.ready(worker, self.now))
                elif state in ("stopping", "killed"):
                    del self.alive[worker]
                    self.perform(self.scheduler.died(worker, "left", self.now))
            self.now += 1.0
        assert self.scheduler.ended
        assert all((task in self.answers) != (task in self.gone) for task in self.tasks), (
            "a task was lost"
        )
        assert len(self.scheduler._timers) <= 64 + 2 * len(self.tasks)
        assert len(self.scheduler.workers.timers) <= 64


History.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestHistory = History.TestCase


def plain_task() -> Task:
    return Task(PLAIN, None, lambda _: None)


def owner(task: Task) -> tuple[int, str]:
    return task.source, task.key


class Bench:
    """A scheduler with ready workers and a clock, for one decision at a time."""

    def __init__(self, workers: int = 1, boot_s: float = 0.0, **limits: object) -> None:
        self.now = 0.0
        self.pending: list[Action] = []  # what `submit` told to do
        self.scheduler = Scheduler(Limits(workers, workers, **limits), self.now)  # type: ignore[arg-type]
        starts = self.scheduler.dispatch(self.now)
        self.now += boot_s
        for action in starts:
            assert isinstance(action, Start)
            self.scheduler.ready(action.worker_id, self.now)

    def submit(self, function: Function = PLAIN, **options: object) -> Task:
        task = Task(function, None, lambda _: None, **options)  # type: ignore[arg-type]
        self.pending += self.scheduler.submit(task, self.now)
        return task

    def dispatch(self) -> list[Action]:
        actions, self.pending = self.pending, []
        return actions + self.scheduler.dispatch(self.now)

    def sends(self) -> list[Send]:
        return [action for action in self.dispatch() if isinstance(action, Send)]

    def finish(self, send: Send, took: float = 1.0) -> None:
        self.now += took
        self.scheduler.done(send.worker_id, send.batch_id, ["ok"] * len(send.batch), self.now)


@pytest.mark.parametrize("options", [{}, {"timeout_s": 1.0}, {"deadline_at": 10.0}])
@pytest.mark.parametrize("function", [PLAIN, BATCHED])
def test_only_a_single_plain_call_goes_at_once(
    function: Function, options: dict[str, float]
) -> None:
    """A call goes to a worker from `submit` if nothing runs, no timer is needed, and no batch."""
    bench = Bench(workers=2)
    bench.dispatch()
    bench.submit(function, **options)
    goes_at_once = function is PLAIN and not options
    assert [type(action) for action in bench.pending] == [Send] * goes_at_once
    assert bench.scheduler.waiting == (not goes_at_once)
    bench.submit()  # something runs or waits already
    assert len(bench.pending) == goes_at_once
    assert len(bench.sends()) == 2
    assert bench.scheduler.waiting == 0


def test_no_priority_starves() -> None:
    """Urgent tasks that keep coming pass a patient one only until it has waited for the
    difference.
    """
    bench = Bench()
    bench.submit()
    (running,) = bench.sends()
    patient = bench.submit(priority=3)
    while running.batch != [patient]:
        bench.submit(priority=0)
        bench.finish(running, took=AGEING_S / 2)
        (running,) = bench.sends()
        assert bench.now <= 3 * AGEING_S + AGEING_S


def test_no_key_starves() -> None:
    """Of a thousand waiting tasks of one key, one goes before another key's only task."""
    bench = Bench(max_queue=2000)
    for _ in range(1000):
        bench.submit(key="flood")
    honest = bench.submit(key="honest")
    order = []
    for _ in range(3):
        (send,) = bench.sends()
        order += send.batch
        bench.finish(send)
    assert order.index(honest) <= 1


def test_no_client_starves() -> None:
    """A client with a thousand keys takes turns with one that has none."""
    bench = Bench(max_queue=2000)
    for number in range(1000):
        bench.submit(source=1, key=str(number))
    other = bench.submit(source=2)
    sends = [bench.sends()]
    bench.finish(sends[0][0])
    sends.append(bench.sends())
    assert other in sends[0][0].batch + sends[1][0].batch


def test_quick_calls_are_sent_together_and_slow_ones_are_not() -> None:
    """What is known to be quick shares a frame; what is slow, unknown or has a timeout does not."""
    bench = Bench(can_coalesce=True)
    bench.submit()
    (send,) = bench.sends()
    waiting = [bench.submit() for _ in range(20)]
    bench.finish(send, took=100e-6)
    (send,) = bench.sends()
    assert send.batch == waiting[:MAX_COALESCED_CALLS]
    bench.finish(send, took=1.0)
    (send,) = bench.sends()
    assert len(send.batch) == 1

    bench = Bench(can_coalesce=True)
    bench.submit()
    (send,) = bench.sends()
    tasks = [
        bench.submit(),
        bench.submit(deadline_at=9.0),
        bench.submit(timeout_s=5.0),
        bench.submit(),
    ]
    bench.finish(send, took=100e-6)
    (send,) = bench.sends()
    assert send.batch == tasks[:2]  # the next in line has a timeout, and nobody passes it


def test_calls_behind_a_stalled_one_are_taken_back() -> None:
    """A quick function that takes long this once holds up nobody."""
    bench = Bench(workers=1, can_coalesce=True)
    bench.submit()
    (send,) = bench.sends()
    waiting = [bench.submit(), bench.submit(), bench.submit()]
    bench.finish(send, took=100e-6)
    (send,) = bench.sends()
    assert send.batch == waiting
    bench.now += HOLD_AFTER_S
    assert bench.dispatch() == [Hold(send.worker_id)]
    bench.now += 1.0
    assert bench.dispatch() == [Reclaim(send.worker_id)]
    bench.scheduler.held(send.worker_id, send.batch_id, begun=1)
    assert [task.state for task in waiting] == [
        TaskState.RUNNING,
        TaskState.RUNNING,
        TaskState.WAITING,
    ]
    # The worker did not begin the second after all, because it saw the stop.
    actions = bench.scheduler.done(send.worker_id, send.batch_id, ["one", None, None], bench.now)
    assert actions == [Answer(waiting[0], "one")]
    assert list(bench.scheduler.backlog.retries) == [waiting[2], waiting[1]]


def test_task_given_up_before_it_is_sent_is_sent_whole() -> None:
    """The engine does what it is asked one by one, and an answer may make a client give up a
    task of a later send.
    """
    bench = Bench(workers=2)
    one, two = bench.submit(BATCHED), bench.submit(PURE)
    one.payload = two.payload = "payload"
    first, second = bench.sends()
    bench.scheduler.cancel(one)
    bench.scheduler.orphan(two, bench.now)
    assert [one.payload, two.payload] == [None, None]
    assert [first.payloads, second.payloads] == [["payload"], ["payload"]]


def test_task_that_runs_again_keeps_its_payload() -> None:
    """Until it is answered."""
    bench = Bench()
    task = bench.submit(PURE)
    task.payload = "payload"
    (send,) = bench.sends()
    bench.scheduler.died(send.worker_id, "died", bench.now)
    (start,) = bench.dispatch()
    assert isinstance(start, Start)
    bench.scheduler.ready(start.worker_id, bench.now)
    (send,) = bench.sends()
    assert send.payloads == ["payload"]
    bench.finish(send)
    assert task.payload is None


def test_cancel_takes_constant_time() -> None:
    """Counted, not timed: a cancel in a queue of 10,000 touches no other task."""
    bench = Bench(max_queue=20_000)
    tasks = [bench.submit(key=str(number % 7)) for number in range(10_000)]
    touched = []

    class Watched(Task):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            touched.append(name)
            return super().__getattribute__(name)

    for task in tasks:
        task.__class__ = Watched
    bench.scheduler.cancel(tasks[5000])
    assert 0 < len(touched) < 40
    assert bench.scheduler.waiting == 9_999


def test_full_queue_costs_the_same_however_many_keys_it_has() -> None:
    """Counted, not timed: neither a refusal nor a place that is taken from another looks at
    every line.
    """

    def calls(keys: int, newcomer: str) -> int:
        bench = Bench(max_queue=2 * keys)
        bench.submit()
        bench.sends()
        for number in range(2 * keys):
            bench.submit(key=str(number % keys))
        counted = []
        sys.setprofile(lambda _frame, event, _argument: counted.append(event))
        try:
            bench.submit(key=newcomer)
        except PoolFull:
            assert newcomer == "0"
        else:
            assert newcomer == "new"
        finally:
            sys.setprofile(None)
        return len(counted)

    for newcomer in ("0", "new"):
        assert 0 < calls(1000, newcomer) <= calls(10, newcomer) + 10


def test_estimated_wait_refuses_what_would_be_late() -> None:
    """Three tasks of a second each before it, and a deadline of two: no."""
    bench = Bench()
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=1.0)
    bench.submit()
    bench.sends()
    for _ in range(3):
        bench.submit()
    with pytest.raises(PoolFull) as full:
        bench.submit(deadline_at=bench.now + 2.0)
    assert full.value.retry_after == pytest.approx(2.0)
    bench.submit(deadline_at=bench.now + 4.5)


def test_work_that_cannot_be_done_in_time_is_not_begun() -> None:
    """A queue whose wait is the deadline itself would otherwise be nothing but work that is done
    too late.
    """
    bench = Bench()
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=1.0)
    bench.submit()
    (send,) = bench.sends()
    late, later = (
        bench.submit(deadline_at=bench.now + 4.0),
        bench.submit(deadline_at=bench.now + 9.0),
    )
    bench.finish(send, took=3.5)
    (send,) = bench.sends()
    assert send.batch == [later]
    assert late.state is TaskState.DONE


def test_one_slow_batch_does_not_forbid_all_that_follow() -> None:
    """Half of the time to the deadline is always for waiting, so something runs and is learnt
    from.
    """
    bench = Bench()
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=1000.0)
    task = bench.submit(deadline_at=bench.now + 1.0)
    assert task.start_by == bench.now + 0.5
    (send,) = bench.sends()
    assert send.batch == [task]


def test_retry_that_cannot_make_its_deadline_is_not_begun() -> None:
    """Its worker died in time for another attempt, but no other worker was free in time."""
    bench = Bench()
    task = bench.submit(PURE)
    (send,) = bench.sends()
    bench.finish(send, took=2.0)
    task = bench.submit(PURE, deadline_at=bench.now + 5.0)
    (send,) = bench.sends()
    bench.scheduler.died(send.worker_id, "was killed", bench.now, begun=0)
    bench.dispatch()
    bench.now = task.start_by
    assert bench.now < task.deadline_at
    (answer,) = (action for action in bench.dispatch() if isinstance(action, Answer))
    assert answer.task is task
    assert isinstance(answer.answer, DeadlineExceeded)


def test_task_refused_for_its_deadline_takes_nobodys_place() -> None:
    """A full queue and a hopeless deadline: the newcomer is refused, and the longest line stays
    as it is.
    """
    bench = Bench(max_queue=3)
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=1.0)
    bench.submit()
    bench.sends()
    for _ in range(3):
        bench.submit(key="flood")
    with pytest.raises(PoolFull, match="deadline"):
        bench.submit(key="late", deadline_at=bench.now + 0.5)
    assert bench.scheduler.waiting == 3
    assert bench.dispatch() == []


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_work_that_is_nearly_done_is_not_killed(way: str) -> None:
    """A replacement would be ready later than the worker itself.

    If it is not, it has twice the usual time.
    """
    bench = Bench(boot_s=1.0)
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=0.5)
    for is_late in (False, True):
        task = bench.submit(deadline_at=bench.now + 0.9 if way == "deadline" else math.inf)
        (send,) = bench.sends()
        bench.now += 0.9
        dropped = bench.scheduler.cancel(task) if way == "cancel" else []
        assert not any(isinstance(action, Kill) for action in [*dropped, *bench.dispatch()])
        assert task.state is TaskState.DONE
        if is_late:
            bench.now += 0.5
            assert [type(action) for action in bench.dispatch()] == [Kill, Start]
            assert bench.scheduler.recorder.restarts[way] == 1
        else:
            bench.finish(send, took=0.0)
            assert bench.scheduler.recorder.restarts[way] == 0


def test_long_work_nobody_waits_for_is_killed_at_once() -> None:
    """So is work that is not known yet, and that of a timeout, which is the caller's word for
    too long.
    """
    bench = Bench(boot_s=1.0)
    bench.submit()
    (send,) = bench.sends()
    bench.finish(send, took=3.0)
    task = bench.submit()
    bench.sends()
    assert any(isinstance(action, Kill) for action in bench.scheduler.cancel(task))


def test_restarts_back_off_and_never_stop() -> None:
    """A worker that cannot boot is tried again ever more slowly, for ever."""
    scheduler = Scheduler(Limits(1, 1), 0.0)
    now = 0.0
    starts: list[float] = []
    actions = scheduler.dispatch(now)
    while len(starts) < 30:
        for action in actions:
            assert isinstance(action, Start)
            starts.append(now)
            scheduler.died(action.worker_id, "failed", now)
        next_at = scheduler.next_at()
        actions = scheduler.dispatch(now)
        if not actions:
            assert next_at < math.inf
            now = max(now, scheduler.next_at())
            actions = scheduler.dispatch(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[0] == 0
    assert gaps[1] == pytest.approx(0.1)
    assert gaps == pytest.approx(sorted(gaps))
    assert gaps[-1] == pytest.approx(5.0)


def fail_starts(scheduler: Scheduler, until: float) -> list[tuple[float, Answer]]:
    """Have every start fail, from 0 s on; which tasks are answered meanwhile, and when."""
    now, answers = 0.0, list[tuple[float, Answer]]()
    while now < until:
        actions = scheduler.dispatch(now)
        while actions:
            action = actions.pop()
            if isinstance(action, Answer):
                answers.append((now, action))
            elif isinstance(action, Start):
                actions += scheduler.died(action.worker_id, "ended with status 1", now)
                actions += scheduler.dispatch(now)
        now = max(now, scheduler.next_at())
    return answers


def test_a_task_is_told_when_no_worker_can_be_started() -> None:
    """A passing shortage is waited for.

    After five seconds of nothing but failures the call fails, and says why.
    """
    scheduler = Scheduler(Limits(2, 2), 0.0)
    task = plain_task()
    scheduler.submit(task, 0.0)
    ((when, (answered, error)),) = fail_starts(scheduler, 20.0)
    assert answered is task
    assert 5.0 <= when <= 10.0
    assert isinstance(error, WorkerCrashed)
    assert "no worker can be started: the last one ended with status 1" in str(error)


def test_a_worker_that_starts_after_all_takes_what_waits() -> None:
    """Calls that came after the failures wait for the next start, and run where it succeeds."""
    scheduler = Scheduler(Limits(1, 1), 0.0)
    fail_starts(scheduler, 10.0)
    task = plain_task()
    now = scheduler.next_at()
    scheduler.submit(task, now)
    (start,) = scheduler.dispatch(now)
    assert isinstance(start, Start)
    scheduler.ready(start.worker_id, now)
    (send,) = scheduler.dispatch(now)
    assert isinstance(send, Send)
    assert send.batch == [task]


def test_worker_that_does_not_boot_is_killed() -> None:
    """Its time is up, and another takes its place."""
    scheduler = Scheduler(Limits(1, 1, boot_timeout=5.0), 0.0)
    assert scheduler.dispatch(0.0) == [Start(1)]
    assert scheduler.dispatch(5.0) == [Kill(1), Start(2)]
    assert scheduler.workers.all[1].state is WorkerState.KILLED


def test_orphan_may_finish_but_not_run_for_ever() -> None:
    """The work of a client that has gone goes on for a while; then its worker is needed."""
    bench = Bench()
    task = bench.submit()
    bench.sends()
    assert bench.scheduler.orphan(task, bench.now) == []
    bench.now = 5.0
    assert bench.dispatch() == []
    bench.now = 11.0
    assert Kill(1) in bench.dispatch()


def test_alarms_do_not_pile_up() -> None:
    """30,000 tasks with deadlines come and go; the timers of those that are done go too."""
    bench = Bench()
    most = 0
    for _ in range(30_000):
        bench.submit(deadline_at=bench.now + 600.0)
        (send,) = bench.sends()
        bench.finish(send, took=1e-4)
        most = max(most, len(bench.scheduler._timers))
    assert most < 200


def test_errors_share_their_base() -> None:
    """One except clause takes them all."""
    for error in (PoolFull(1.0), TaskTimeout(), DeadlineExceeded(), WorkerCrashed(), PoolClosed()):
        assert isinstance(error, PoolError)
