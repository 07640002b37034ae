"""Every decision of the pool, as a state machine without I/O and without a clock.

The engine tells it what happened and when: a task was submitted or given up, a worker is ready, answered or
died, time passed. Each method returns what is to be done about it: send a batch, answer a task, start, stop
or kill a worker. So all of it can be tested by random histories. ``docs/decisions/0020-pool.md`` has the
states.

Tasks are handed out by ``dispatch`` alone, which the engine calls once at the end of a turn of its event
loop: everything that became known in that turn takes part in the decision. A task leaves the queue only for
an idle worker, so until then it can be cancelled, expire or be overtaken.
"""

import math
import random
from collections.abc import Callable, Sequence

from devnest.pool.actions import Action, Answer, Hold, Kill, Reclaim, Send, Start, Stop
from devnest.pool.alarms import Alarms
from devnest.pool.board import SETTLE_S
from devnest.pool.crew import Crew, Limits, Worker, WorkerState
from devnest.pool.errors import DeadlineExceeded, PoolClosed, PoolError, TaskTimeout, WorkerCrashed
from devnest.pool.functions import MAX_BATCH
from devnest.pool.room import WaitingRoom
from devnest.pool.stats import Recorder, Stats
from devnest.pool.tasks import Task, TaskState

__all__ = ["Scheduler"]

MAX_CRASHES = 2  # a task that killed so many workers is not tried again
STALL_S = 0.05  # after so long those that have not begun are taken back
ORPHAN_S = 10.0  # how long a running task whose client has gone may go on


_Subject = Task | Worker | Crew  # the crew: time to start a worker that had to wait


class Scheduler:
    """Owns the queue and the workers' records. Not for use from several threads."""

    def __init__(self, limits: Limits, now: float, jitter: Callable[[], float] = random.random) -> None:
        self.crew = Crew(limits, jitter)
        self.closing = False
        self.recorder = Recorder(now)
        self.room = WaitingRoom(self.recorder)
        self._alarms: Alarms[_Subject] = Alarms(self._is_live)
        self._start_alarm_at = 0.0
        self._is_settled = False  # whether the crew is as it should be, unless more tasks wait
        self._is_elastic = False
        self._sizes = (0, 0)
        self._batches = 0
        self._actions: list[Action] = []

    def __repr__(self) -> str:
        crew = self.crew
        return f"<Scheduler waiting={self.waiting} busy={len(crew.busy)} idle={len(crew.idle)}>"

    @property
    def waiting(self) -> int:
        """Tasks that no worker has."""
        return len(self.room)

    @property
    def ended(self) -> bool:
        """Whether the pool was closed and nothing of it is left."""
        return self.closing and not self.crew.all and not self.waiting

    @property
    def is_quiet(self) -> bool:
        """Whether ``dispatch`` would find nothing to do after a worker's answer."""
        return self._is_settled and not self._is_elastic and not self.waiting

    def next_at(self) -> float | None:
        """When ``dispatch`` has to be called at the latest."""
        return self._alarms.next_at()

    def stats(self, now: float) -> Stats:
        """Return the present reading."""
        crew = self.crew
        return self.recorder.read(
            now,
            workers=len(crew.starting) + len(crew.idle) + len(crew.busy),
            idle=len(crew.idle),
            busy=len(crew.busy),
            starting=len(crew.starting),
            queued=self.waiting,
            queued_by_priority=self.room.count_by_priority(),
            running=sum(len(worker.batch) for worker in crew.busy.values()),
        )

    # What callers do.

    def submit(self, task: Task, now: float) -> list[Action]:
        """Take a task in, or raise the pool's error at once."""
        if self.closing:
            raise self._refuse("closed", PoolClosed("the pool is closed"))
        if task.deadline_at <= now:
            raise self._refuse("deadline", DeadlineExceeded("the deadline had passed when the task was submitted"))
        idle, workers = len(self.crew.idle), len(self.crew.idle) + len(self.crew.busy)
        displaced = self.room.admit(task, self.crew.limits, idle=idle, workers=workers, now=now)
        if displaced is not None:
            self._actions.append(Answer(displaced, self.room.full(max(1, workers))))
        if task.deadline_at < math.inf:
            task.start_by = self.room.estimates.start_by(task, now)
            self._alarms.add(task.start_by, task)
        return self._take_actions()

    def cancel(self, task: Task, now: float) -> list[Action]:
        """Drop a task whose caller no longer waits; it gets no answer. One that is done is left alone."""
        if task.state is not TaskState.DONE:
            self.recorder.cancelled += 1
            self._drop(task, now, "cancel")
        return self._take_actions()

    def orphan(self, task: Task, now: float) -> list[Action]:
        """Drop a task whose client has gone; if it runs it may go on for ``ORPHAN_S``."""
        if task.state is not TaskState.RUNNING:
            return self.cancel(task, now)
        task.state = TaskState.DONE
        self.recorder.cancelled += 1
        worker = self.crew.all[task.worker_id]
        if self.crew.limits.can_kill and not worker.is_awaited():
            worker.kill_at = now + ORPHAN_S
            self._alarms.add(worker.kill_at, worker)
        return self._take_actions()

    def resize(self, limits: Limits) -> list[Action]:
        """Work with other limits from the next dispatch on."""
        self.crew.limits = limits
        self._is_settled = False
        return self._take_actions()

    def close(self, now: float, *, force: bool) -> list[Action]:
        """Take no more tasks; with ``force``, give up those there are and end the workers."""
        self.closing = True
        if force:
            error = PoolClosed("the pool was closed before the task was answered")
            for task in [*self.room.retries, *self.room.queue]:
                self.room.take_out(task)
                self._answer(task, error)
            for worker in list(self.crew.all.values()):
                for task in worker.batch:
                    if task.state is TaskState.RUNNING:
                        self._answer(task, error)
                if worker.state is not WorkerState.KILLED:
                    self._end(worker, WorkerState.KILLED)
        self._is_settled = False
        return self._take_actions()

    # What workers do.

    def ready(self, worker_id: int, now: float) -> list[Action]:
        """A worker has booted."""
        worker = self.crew.all.get(worker_id)
        if worker is not None and worker.state is WorkerState.STARTING:
            self.crew.booted(worker, now)
            if worker.retire_at < math.inf:
                self._alarms.add(worker.retire_at, worker)
            self._watch_idle(worker, now)
            self._is_settled = False
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
        """A worker answered its batch. An answer to anything but its present batch is ignored."""
        worker = self.crew.all.get(worker_id)
        if worker is None or worker.state is not WorkerState.BUSY or worker.batch_id != batch_id:
            return self._take_actions()
        batch = worker.batch
        assert len(answers) >= len(batch)  # more: some of them were taken back
        for task, answer in zip(batch, answers, strict=False):
            if task.state is TaskState.RUNNING and answer is not None:
                self._answer(task, answer)
            elif task.state is TaskState.RUNNING:  # it was held just before it began
                self.room.put_back(task)
        self.room.estimates.learn(batch[0].function, now - worker.sent_at, len(batch))
        self.recorder.ran(now - worker.sent_at, now)
        self.recorder.failed += failed
        self.crew.succeeded()
        self.crew.rest(worker, now)
        self._recycle_if_due(worker, rss)
        if not self._is_settled and worker in self._surplus():
            # At once: a busy pool would have the next task for it. No waiting task was taken in on its account.
            self._end(worker, WorkerState.STOPPING)
        elif self._is_elastic:
            self._watch_idle(worker, now)
        if self.is_quiet:
            self._note_sizes(now)
        return self._take_actions()

    def held(self, worker_id: int, batch_id: int, begun: int) -> list[Action]:
        """A worker that was held has begun its batch up to this index; the rest of it runs elsewhere."""
        worker = self.crew.all.get(worker_id)
        if worker is not None and worker.state is WorkerState.BUSY and worker.batch_id == batch_id:
            for task in worker.batch[begun + 1 :]:
                if task.state is TaskState.RUNNING:
                    self.room.put_back(task)
            del worker.batch[begun + 1 :]
        return self._take_actions()

    def died(self, worker_id: int, how: str, now: float, *, begun: int = MAX_BATCH) -> list[Action]:
        """A worker ended, and this is how. What it ran is answered, or waits for its second run.

        Of its batch it had begun the tasks up to the index ``begun``; the others may safely run elsewhere.
        """
        worker = self.crew.all.get(worker_id)
        if worker is None:
            return self._take_actions()
        batch, state = worker.batch, worker.state
        self.crew.forget(worker)
        if state in (WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY):
            self.recorder.restarts["boot" if state is WorkerState.STARTING else "crash"] += 1
            self.crew.failed(now)
        for index, task in enumerate(batch):
            if task.state is TaskState.RUNNING:
                task.crashes += index <= begun
                if index > begun or (task.function.pure and task.crashes < MAX_CRASHES):
                    self.room.put_back(task)
                else:
                    self._answer(task, WorkerCrashed(f"the worker {how} while it ran {task.function.name}"))
        self._is_settled = False
        return self._take_actions()

    # The end of a turn.

    def dispatch(self, now: float) -> list[Action]:
        """Do what is due, hand waiting work to idle workers, and mend the number of workers."""
        due_at = self._alarms.next_at()
        if due_at is not None and due_at <= now:
            self._ring(now)
        crew = self.crew
        while crew.idle and self.waiting:
            self._send(self.room.next_batch(crew.limits, idle=len(crew.idle), now=now), now)
        if not self._is_settled:
            for worker in self._surplus():
                self._end(worker, WorkerState.KILLED if worker.id in crew.starting else WorkerState.STOPPING)
        if not self._is_settled or (self.waiting and crew.size < crew.limits.max_workers):
            self._hire(now)
        self._note_sizes(now)
        return self._take_actions()

    def _send(self, batch: list[Task], now: float) -> None:
        self._batches += 1
        worker = self.crew.engage(batch, self._batches, now)
        for task in batch:
            task.state = TaskState.RUNNING
            task.worker_id, task.batch_id = worker.id, self._batches
            if task.deadline_at < math.inf:
                self._alarms.add(task.deadline_at, task)
            if task.timeout_s < math.inf:
                task.run_until = now + task.timeout_s
                self._alarms.add(task.run_until, task)
        if len(batch) > 1 and not batch[0].function.max_size:
            worker.hold_at = now + STALL_S
            self._alarms.add(worker.hold_at, worker)
        self.recorder.sent([now - task.enqueued_at for task in batch], now)
        self._actions.append(Send(worker.id, self._batches, batch))

    def _surplus(self) -> list[Worker]:
        wanted = self.crew.wanted(self.waiting, closing=self.closing)
        return self.crew.surplus(wanted, all_done=self.closing and not self.waiting)

    def _hire(self, now: float) -> None:
        crew = self.crew
        # Anything that ends with a batch is looked at again when one does.
        self._is_settled = not (self.closing or crew.retiring or crew.size > crew.limits.max_workers)
        self._is_elastic = crew.limits.min_workers < crew.limits.max_workers
        missing = crew.wanted(self.waiting, closing=self.closing) - crew.size
        if missing > 0 and now < crew.next_start_at:
            self._is_settled = False
            if self._start_alarm_at != crew.next_start_at:
                self._start_alarm_at = crew.next_start_at
                self._alarms.add(crew.next_start_at, crew)
            return
        for _ in range(missing):
            worker = crew.add(now)
            self._alarms.add(worker.boot_until, worker)
            self._actions.append(Start(worker.id))

    # Alarms.

    def _is_live(self, when: float, subject: _Subject) -> bool:
        if isinstance(subject, Task):
            is_waiting = subject.state is TaskState.WAITING and when == subject.start_by
            return is_waiting or (
                subject.state is not TaskState.DONE and when in (subject.deadline_at, subject.run_until)
            )
        if isinstance(subject, Worker):
            look_at = (subject.boot_until, subject.idle_look_at, subject.retire_at, subject.kill_at, subject.hold_at)
            return subject.id in self.crew.all and when in look_at
        return when == self._start_alarm_at

    def _ring(self, now: float) -> None:
        while (subject := self._alarms.pop_due(now)) is not None:
            if isinstance(subject, Task):
                self._expire(subject, now)
            elif isinstance(subject, Worker):
                self._look_at(subject, now)

    def _expire(self, task: Task, now: float) -> None:
        # 1. Its deadline has passed, or will before it can be done: nobody needs the answer, waiting or running. A
        # worker that began it now would be wasted on it, and a long queue would have nothing but such work done.
        running = task.state is TaskState.RUNNING
        if task.deadline_at <= now or (not running and task.start_by <= now):
            self._drop(task, now, "deadline")
            text = "the task was not done by its deadline" if running else "no worker was free in time for the deadline"
            self._actions.append(Answer(task, DeadlineExceeded(text)))
            self.recorder.refused["expired"] += 1
        # 2. It runs, and has used up its time: it and all those of its batch of which that is true are at
        # fault.
        elif task.state is TaskState.RUNNING and task.run_until <= now:
            worker = self.crew.all[task.worker_id]
            for other in worker.batch:
                if other.state is TaskState.RUNNING and other.run_until <= now:
                    self._answer(other, TaskTimeout(f"{other.function.name} ran longer than its timeout"))
            if self.crew.limits.can_kill:
                self._kill(worker, now, "timeout")

    def _look_at(self, worker: Worker, now: float) -> None:
        if worker.boot_until <= now and worker.state is WorkerState.STARTING:
            self.recorder.restarts["boot"] += 1
            self.crew.failed(now)
            self._end(worker, WorkerState.KILLED)
        if worker.retire_at <= now and worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            self._retire(worker, "age")
        if worker.kill_at <= now and worker.state is WorkerState.BUSY and not worker.is_awaited():
            self._kill(worker, now, "cancel")
        if worker.hold_at <= now and worker.state is WorkerState.BUSY:
            worker.hold_at = math.inf if worker.is_held else now + SETTLE_S
            if not worker.is_held:
                self._alarms.add(worker.hold_at, worker)
            self._actions.append(Reclaim(worker.id) if worker.is_held else Hold(worker.id))
            worker.is_held = True
        if worker.idle_look_at <= now:
            worker.idle_look_at = math.inf
            idle_until = worker.idle_since + self.crew.limits.idle_timeout
            # A task that was taken in on its account, in this very turn, is not left without it.
            is_free = worker.state is WorkerState.IDLE and len(self.crew.idle) > self.waiting
            if is_free and idle_until <= now and self.crew.is_spare(worker):
                self._end(worker, WorkerState.STOPPING)
            else:
                self._watch_idle(worker, now)

    def _watch_idle(self, worker: Worker, now: float) -> None:
        """Have a worker that the pool may spare looked at when it can have been idle long enough."""
        limits = self.crew.limits
        if (
            self._is_elastic
            and worker.idle_look_at == math.inf
            and worker.state in (WorkerState.IDLE, WorkerState.BUSY)
        ):
            idle_until = worker.idle_since + limits.idle_timeout
            worker.idle_look_at = idle_until if idle_until > now else now + limits.idle_timeout
            self._alarms.add(worker.idle_look_at, worker)

    # Small steps, each of which leaves the records consistent.

    def _take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _refuse(self, reason: str, error: PoolError) -> PoolError:
        self.recorder.refused[reason] += 1
        return error

    def _answer(self, task: Task, answer: object) -> None:
        assert task.state is not TaskState.DONE
        task.state = TaskState.DONE
        self.recorder.done += 1
        self.recorder.failed += isinstance(answer, PoolError)
        self._actions.append(Answer(task, answer))

    def _drop(self, task: Task, now: float, reason: str) -> None:
        if task.state is TaskState.WAITING:
            self.room.take_out(task)
            task.state = TaskState.DONE
            return
        task.state = TaskState.DONE
        worker = self.crew.all[task.worker_id]
        if self.crew.limits.can_kill and not worker.is_awaited():
            self._kill(worker, now, reason)

    def _kill(self, worker: Worker, now: float, reason: str) -> None:
        """End a busy worker on purpose; the tasks of its batch that still wait for an answer run again."""
        for task in worker.batch:
            if task.state is TaskState.RUNNING:
                self.room.put_back(task)
        self.recorder.restarts[reason] += 1
        self._end(worker, WorkerState.KILLED)

    def _end(self, worker: Worker, state: WorkerState) -> None:
        self._is_settled = False
        self.crew.dismiss(worker, state)
        self._actions.append(Kill(worker.id) if state is WorkerState.KILLED else Stop(worker.id))

    def _recycle_if_due(self, worker: Worker, rss: int) -> None:
        limits = self.crew.limits
        if worker.tasks_left <= 0:
            self._retire(worker, "tasks")
        elif limits.max_rss is not None and rss > limits.max_rss:
            self._retire(worker, "rss")

    def _retire(self, worker: Worker, reason: str) -> None:
        if worker.id not in self.crew.retiring:
            self.crew.retiring[worker.id] = worker
            self._is_settled = False
            self.recorder.restarts[reason] += 1

    def _note_sizes(self, now: float) -> None:
        sizes = len(self.crew.busy), len(self.crew.busy) + len(self.crew.idle)
        if sizes != self._sizes:
            self._sizes = sizes
            self.recorder.sizes(*sizes, now)
