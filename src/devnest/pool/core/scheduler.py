"""Every decision of the pool, as a state machine without I/O and without a clock.

The engine reports what happened and when: a task was submitted or cancelled, a worker became ready,
replied or died, time passed. Each method returns the actions to take: send a batch, answer a task,
or start, stop or kill a worker. Tests can therefore check every decision with random histories.
`docs/decisions/0020-pool.md` has the states.

Only `dispatch` hands out tasks. The engine calls it once at the end of each event loop iteration,
so a decision takes into account everything that happened in that iteration. A task stays in the
queue until a worker is idle; until then it can be cancelled, expire or be overtaken. The
alternative, sending tasks ahead to busy workers, would save a round trip but make a task wait
behind a slow one while other workers are idle.
"""

import math
import random
from collections.abc import Callable, Sequence

from devnest.pool.core.actions import Action, Answer, Send
from devnest.pool.core.backlog import Backlog
from devnest.pool.core.limits import Limits, WorkerState
from devnest.pool.core.stats import Recorder, Stats
from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.core.timers import Timers
from devnest.pool.core.workers import Workers
from devnest.pool.errors import DeadlineExceeded, PoolClosed, PoolError, TaskTimeout, WorkerCrashed
from devnest.pool.functions import MAX_BATCH

__all__ = ["Scheduler"]

MAX_CRASHES = 2  # workers that one pure task may kill: a task that did is not tried again


class Scheduler:
    """The owner of all task states, of the backlog and of the worker records. Not thread-safe."""

    def __init__(
        self, limits: Limits, now: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._actions: list[Action] = []
        self.recorder = Recorder(now)
        self.backlog = Backlog(self.recorder)
        self.workers = Workers(limits, self.backlog, self.recorder, self._actions, jitter)
        self._timers = Timers(_is_live)
        self._batches = 0

    def __repr__(self) -> str:
        workers = self.workers
        return (
            f"<Scheduler waiting={self.waiting} busy={len(workers.busy)} idle={len(workers.idle)}>"
        )

    @property
    def waiting(self) -> int:
        """The number of tasks that no worker has."""
        return len(self.backlog)

    @property
    def ended(self) -> bool:
        """Whether the pool was closed and has neither tasks nor workers left."""
        return self.workers.closing and not self.workers.all and not self.waiting

    @property
    def can_skip_dispatch(self) -> bool:
        """Whether `dispatch` would find nothing to do after a worker's reply."""
        return self.workers.is_right_size and not self.workers.is_elastic and not self.waiting

    def next_at(self) -> float:
        """Return the time by which `dispatch` has to be called; infinity for never."""
        return min(self._timers.next_at(), self.workers.timers.next_at())

    def stats(self, now: float) -> Stats:
        """Return the present statistics."""
        workers = self.workers
        return self.recorder.read(
            now,
            workers=len(workers.starting) + len(workers.idle) + len(workers.busy),
            idle=len(workers.idle),
            busy=len(workers.busy),
            starting=len(workers.starting),
            queued=self.waiting,
            queued_by_priority=self.backlog.count_by_priority(),
            running=sum(len(worker.batch) for worker in workers.busy.values()),
        )

    # Events from callers.

    def submit(self, task: Task, now: float) -> list[Action]:
        """Add a task.

        Raises:
            PoolClosed: The pool is closing.
            DeadlineExceeded: The deadline has already passed.
            PoolFull: The queue is full, or the task is expected to miss its deadline.
        """
        if self.workers.closing:
            raise self._refuse("closed", PoolClosed("the pool is closed"))
        if task.deadline_at <= now:
            raise self._refuse(
                "deadline", DeadlineExceeded("the deadline had passed when the task was submitted")
            )
        if self._is_single_call(task):
            task.enqueued_at = now
            self._send([task], now)
            return self._take_actions()
        idle, workers = len(self.workers.idle), len(self.workers.idle) + len(self.workers.busy)
        displaced = self.backlog.admit(
            task, self.workers.limits, idle=idle, workers=workers, now=now
        )
        if displaced is not None:
            self._actions.append(Answer(displaced, self.backlog.refuse_full(max(1, workers))))
        if task.deadline_at < math.inf:
            task.start_by = self.backlog.estimates.start_by(task, now)
            self._timers.add(task.start_by, task)
        return self._take_actions()

    def cancel(self, task: Task) -> list[Action]:
        """Drop a task without an answer: its caller no longer waits. A finished task is ignored."""
        if task.state is not TaskState.DONE:
            self.recorder.cancelled += 1
            self._drop(task, "cancel")
        return self._take_actions()

    def orphan(self, task: Task, now: float) -> list[Action]:
        """Drop a task whose client disconnected; a running one may go on for `MAX_ORPHAN_RUN_S`."""
        if task.state is not TaskState.RUNNING:
            return self.cancel(task)
        task.end()
        self.recorder.cancelled += 1
        worker = self.workers.all[task.worker_id]
        if self.workers.limits.can_kill and not worker.is_awaited():
            self.workers.orphan(worker, now)
        return self._take_actions()

    def resize(self, limits: Limits) -> list[Action]:
        """Replace the limits; the next `dispatch` applies them."""
        self.workers.limits = limits
        self.workers.is_right_size = False
        return self._take_actions()

    def close(self, *, force: bool) -> list[Action]:
        """Accept no more tasks; with `force`, fail all present tasks and kill the workers."""
        self.workers.closing = True
        self.workers.is_right_size = False
        if force:
            error = PoolClosed("the pool was closed before the task was answered")
            self._answer_waiting(error)
            for worker in list(self.workers.all.values()):
                for task in worker.batch:
                    if task.state is TaskState.RUNNING:
                        self._answer(task, error)
                if worker.state is not WorkerState.KILLED:
                    self.workers.end(worker, WorkerState.KILLED)
        return self._take_actions()

    # Events from workers.

    def ready(self, worker_id: int, now: float) -> list[Action]:
        """Record that a worker has booted."""
        worker = self.workers.all.get(worker_id)
        if worker is not None and worker.state is WorkerState.STARTING:
            self.workers.record_ready(worker, now)
        return self._take_actions()

    def done(
        self,
        worker_id: int,
        batch_id: int,
        answers: Sequence[object],
        now: float,
        *,
        failed: int = 0,
        rss: int = 0,
    ) -> list[Action]:
        """Record a worker's reply to its batch; a reply to any other batch is ignored."""
        worker = self.workers.all.get(worker_id)
        if worker is None or worker.state is not WorkerState.BUSY or worker.batch_id != batch_id:
            return self._take_actions()
        batch = worker.batch
        assert len(answers) >= len(batch)  # more, if the last tasks of the batch were reclaimed
        for task, answer in zip(batch, answers, strict=False):
            if task.state is TaskState.RUNNING and answer is not None:
                self._answer(task, answer)
            elif task.state is TaskState.RUNNING:  # the worker was held before it began this task
                self.backlog.put_back(task)
        self.backlog.estimates.learn(batch[0].function, now - worker.sent_at, len(batch))
        self.recorder.ran(now - worker.sent_at, now)
        self.recorder.failed += failed
        self.workers.release(worker, now, rss=rss)
        if self.can_skip_dispatch:
            self.workers.note_sizes(now)
        return self._take_actions()

    def held(self, worker_id: int, batch_id: int, begun: int) -> list[Action]:
        """Take the tasks behind index `begun` back from a held worker, to run elsewhere."""
        worker = self.workers.all.get(worker_id)
        if worker is not None and worker.state is WorkerState.BUSY and worker.batch_id == batch_id:
            for task in worker.batch[begun + 1 :]:
                if task.state is TaskState.RUNNING:
                    self.backlog.put_back(task)
            del worker.batch[begun + 1 :]
        return self._take_actions()

    def died(self, worker_id: int, how: str, now: float, *, begun: int = MAX_BATCH) -> list[Action]:
        """Record the end of a worker, and answer or retry the tasks of its batch.

        Args:
            worker_id: The worker.
            how: How it ended, for error messages.
            now: The present time.
            begun: The index of the last task that it had begun. The tasks behind it certainly did
                not run, so they may run elsewhere.
        """
        worker = self.workers.all.get(worker_id)
        if worker is None:
            return self._take_actions()
        batch = worker.batch
        self.workers.record_end(worker, how, now)
        for index, task in enumerate(batch):
            if task.state is TaskState.RUNNING:
                task.crashes += index <= begun
                if index > begun or (task.function.pure and task.crashes < MAX_CRASHES):
                    self.backlog.put_back(task)
                else:
                    self._answer(
                        task, WorkerCrashed(f"the worker {how} while it ran {task.function.name}")
                    )
        self._fail_waiting_without_workers(now)
        return self._take_actions()

    # The end of an event loop iteration.

    def dispatch(self, now: float) -> list[Action]:
        """Handle due timers, give tasks to idle workers, and adjust the number of workers."""
        if self.next_at() <= now:
            while (task := self._timers.pop_due(now)) is not None:
                self._expire(task, now)
            self.workers.check_due(now)
        while self.workers.idle and self.backlog:
            self._send(
                self.backlog.next_batch(self.workers.limits, idle=len(self.workers.idle), now=now),
                now,
            )
        self.workers.adjust_size(now)
        return self._take_actions()

    def _send(self, batch: list[Task], now: float) -> None:
        self._batches += 1
        worker = self.workers.assign(batch, self._batches, now)
        for task in batch:
            task.state = TaskState.RUNNING
            task.sent_at = now
            task.worker_id, task.batch_id = worker.id, self._batches
            if task.deadline_at < math.inf:
                self._timers.add(task.deadline_at, task)
            if task.timeout_s < math.inf:
                task.run_until = now + task.timeout_s
                self._timers.add(task.run_until, task)
        self.recorder.sent([now - task.enqueued_at for task in batch], now)
        self._actions.append(
            Send(worker.id, self._batches, batch, [task.payload for task in batch])
        )

    def _expire(self, task: Task, now: float) -> None:
        # 1. The deadline has passed, or will pass before a waiting task can be done. Running it
        # would waste a worker; with a long queue, workers would run nothing but such late tasks.
        running = task.state is TaskState.RUNNING
        if task.deadline_at <= now or (not running and task.start_by <= now):
            self._drop(task, "deadline")
            text = (
                "the task was not done by its deadline"
                if running
                else "no worker was free in time for the deadline"
            )
            self._actions.append(Answer(task, DeadlineExceeded(text)))
            self.recorder.refused["expired"] += 1
        # 2. The task has run longer than its timeout. Every task of its batch for which that is
        # true fails with it.
        elif task.state is TaskState.RUNNING and task.run_until <= now:
            worker = self.workers.all[task.worker_id]
            for other in worker.batch:
                if other.state is TaskState.RUNNING and other.run_until <= now:
                    self._answer(
                        other, TaskTimeout(f"{other.function.name} ran longer than its timeout")
                    )
            if self.workers.limits.can_kill:
                for other in worker.batch:  # tasks within their timeout run again
                    if other.state is TaskState.RUNNING:
                        self.backlog.put_back(other)
                self.workers.kill(worker, "timeout")

    # Helpers; each leaves the records consistent.

    def _is_single_call(self, task: Task) -> bool:
        """Whether a new task can go to a worker without the queue.

        It is the only one, needs no timer, and could not be batched with calls that follow in this
        event loop iteration.
        """
        workers = self.workers
        return (
            not workers.busy
            and bool(workers.idle)
            and not task.function.max_size
            and not task.is_timed()
            and self.can_skip_dispatch
        )

    def _take_actions(self) -> list[Action]:
        if not self._actions:
            return []
        actions = self._actions.copy()
        self._actions.clear()  # `Workers` appends to the same list
        return actions

    def _refuse(self, reason: str, error: PoolError) -> PoolError:
        self.recorder.refused[reason] += 1
        return error

    def _answer(self, task: Task, answer: object) -> None:
        assert task.state is not TaskState.DONE
        task.end()
        self.recorder.done += 1
        self.recorder.failed += isinstance(answer, PoolError)
        self._actions.append(Answer(task, answer))

    def _answer_waiting(self, error: PoolError) -> None:
        for task in [*self.backlog.retries, *self.backlog.queue]:
            self.backlog.take_out(task)
            self._answer(task, error)

    def _fail_waiting_without_workers(self, now: float) -> None:
        """Fail the waiting tasks if no worker can be started; later tasks wait for a new start."""
        if self.backlog and self.workers.cannot_start(now):
            self._answer_waiting(
                WorkerCrashed(
                    f"no worker can be started: the last one {self.workers.start_failure}"
                )
            )

    def _drop(self, task: Task, reason: str) -> None:
        was_waiting = task.state is TaskState.WAITING
        task.end()
        if was_waiting:
            self.backlog.take_out(task)
            return
        worker = self.workers.all[task.worker_id]
        if self.workers.limits.can_kill and not worker.is_awaited():
            self.workers.abandon(worker, reason, self.backlog.estimates.batch_s(task.function))


def _is_live(when: float, task: Task) -> bool:
    """Whether a timer of a task still matters."""
    if task.state is TaskState.WAITING and when == task.start_by:
        return True
    return task.state is not TaskState.DONE and when in (task.deadline_at, task.run_until)
