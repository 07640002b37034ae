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

from devnest.pool.actions import Action, Answer, Send
from devnest.pool.alarms import Alarms
from devnest.pool.crew import Crew
from devnest.pool.errors import DeadlineExceeded, PoolClosed, PoolError, TaskTimeout, WorkerCrashed
from devnest.pool.functions import MAX_BATCH
from devnest.pool.records import Limits, WorkerState
from devnest.pool.room import WaitingRoom
from devnest.pool.stats import Recorder, Stats
from devnest.pool.tasks import Task, TaskState

__all__ = ["Scheduler"]

MAX_CRASHES = 2  # a task that killed so many workers is not tried again


class Scheduler:
    """Owns every task's state, the room where tasks wait and the crew that runs them. Not for several threads."""

    def __init__(self, limits: Limits, now: float, jitter: Callable[[], float] = random.random) -> None:
        self._actions: list[Action] = []
        self.recorder = Recorder(now)
        self.room = WaitingRoom(self.recorder)
        self.crew = Crew(limits, self.room, self.recorder, self._actions, jitter)
        self._alarms = Alarms(_is_live)
        self._batches = 0

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
        return self.crew.closing and not self.crew.all and not self.waiting

    @property
    def is_quiet(self) -> bool:
        """Whether ``dispatch`` would find nothing to do after a worker's answer."""
        return self.crew.is_settled and not self.crew.is_elastic and not self.waiting

    def next_at(self) -> float:
        """When ``dispatch`` has to be called at the latest; infinity where nothing is to come."""
        return min(self._alarms.next_at(), self.crew.alarms.next_at())

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
        if self.crew.closing:
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

    def cancel(self, task: Task) -> list[Action]:
        """Drop a task whose caller no longer waits; it gets no answer. One that is done is left alone."""
        if task.state is not TaskState.DONE:
            self.recorder.cancelled += 1
            self._drop(task, "cancel")
        return self._take_actions()

    def orphan(self, task: Task, now: float) -> list[Action]:
        """Drop a task whose client has gone; if it runs it may go on for a while."""
        if task.state is not TaskState.RUNNING:
            return self.cancel(task)
        task.end()
        self.recorder.cancelled += 1
        worker = self.crew.all[task.worker_id]
        if self.crew.limits.can_kill and not worker.is_awaited():
            self.crew.orphan(worker, now)
        return self._take_actions()

    def resize(self, limits: Limits) -> list[Action]:
        """Work with other limits from the next dispatch on."""
        self.crew.limits = limits
        self.crew.is_settled = False
        return self._take_actions()

    def close(self, *, force: bool) -> list[Action]:
        """Take no more tasks; with ``force``, give up those there are and end the workers."""
        self.crew.closing = True
        self.crew.is_settled = False
        if force:
            error = PoolClosed("the pool was closed before the task was answered")
            self._answer_waiting(error)
            for worker in list(self.crew.all.values()):
                for task in worker.batch:
                    if task.state is TaskState.RUNNING:
                        self._answer(task, error)
                if worker.state is not WorkerState.KILLED:
                    self.crew.end(worker, WorkerState.KILLED)
        return self._take_actions()

    # What workers do.

    def ready(self, worker_id: int, now: float) -> list[Action]:
        """A worker has booted."""
        worker = self.crew.all.get(worker_id)
        if worker is not None and worker.state is WorkerState.STARTING:
            self.crew.booted(worker, now)
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
        self.crew.release(worker, now, rss=rss)
        if self.is_quiet:
            self.crew.note_sizes(now)
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
        batch = worker.batch
        self.crew.lost(worker, how, now)
        for index, task in enumerate(batch):
            if task.state is TaskState.RUNNING:
                task.crashes += index <= begun
                if index > begun or (task.function.pure and task.crashes < MAX_CRASHES):
                    self.room.put_back(task)
                else:
                    self._answer(task, WorkerCrashed(f"the worker {how} while it ran {task.function.name}"))
        self._give_up_without_workers(now)
        return self._take_actions()

    # The end of a turn.

    def dispatch(self, now: float) -> list[Action]:
        """Do what is due, hand waiting work to idle workers, and mend the number of workers."""
        if self.next_at() <= now:
            while (task := self._alarms.pop_due(now)) is not None:
                self._expire(task, now)
            self.crew.look(now)
        while self.crew.idle and self.room:
            self._send(self.room.next_batch(self.crew.limits, idle=len(self.crew.idle), now=now), now)
        self.crew.mend(now)
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
        self.recorder.sent([now - task.enqueued_at for task in batch], now)
        self._actions.append(Send(worker.id, self._batches, batch, [task.payload for task in batch]))

    def _expire(self, task: Task, now: float) -> None:
        # 1. Its deadline has passed, or will before it can be done: nobody needs the answer, waiting or running. A
        # worker that began it now would be wasted on it, and a long queue would have nothing but such work done.
        running = task.state is TaskState.RUNNING
        if task.deadline_at <= now or (not running and task.start_by <= now):
            self._drop(task, "deadline")
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
                for other in worker.batch:  # those that still wait for an answer run again
                    if other.state is TaskState.RUNNING:
                        self.room.put_back(other)
                self.crew.kill(worker, "timeout")

    # Small steps, each of which leaves the records consistent.

    def _take_actions(self) -> list[Action]:
        if not self._actions:
            return []
        actions = self._actions.copy()
        self._actions.clear()  # the crew has the same list
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
        for task in [*self.room.retries, *self.room.queue]:
            self.room.take_out(task)
            self._answer(task, error)

    def _give_up_without_workers(self, now: float) -> None:
        """Where no worker can be started, say so to those that wait; later calls have the next start to hope for."""
        if self.room and self.crew.cannot_start(now):
            self._answer_waiting(WorkerCrashed(f"no worker can be started: the last one {self.crew.start_failure}"))

    def _drop(self, task: Task, reason: str) -> None:
        was_waiting = task.state is TaskState.WAITING
        task.end()
        if was_waiting:
            self.room.take_out(task)
            return
        worker = self.crew.all[task.worker_id]
        if self.crew.limits.can_kill and not worker.is_awaited():
            self.crew.give_up(worker, reason, self.room.estimates.batch_s(task.function))


def _is_live(when: float, task: Task) -> bool:
    """Whether a task still has something to expect at this moment."""
    if task.state is TaskState.WAITING and when == task.start_by:
        return True
    return task.state is not TaskState.DONE and when in (task.deadline_at, task.run_until)
