"""The workers a pool has: how many there should be, which of them go and why, and when the next may start.

Only the scheduler calls this, and like the scheduler it has no I/O and no clock: what is to be done goes to the
list of actions that both write to. ``docs/decisions/0020-pool.md`` draws a worker's states.
"""

import itertools
import math
from collections.abc import Callable, Sized

from devnest.pool.core.actions import Action, Hold, Kill, Reclaim, Start, Stop
from devnest.pool.core.limits import Limits, Worker, WorkerState
from devnest.pool.core.stats import Recorder
from devnest.pool.core.tasks import Task
from devnest.pool.core.timers import Timers

__all__ = ["Workers"]

BACKOFF_FIRST_S = 0.1  # before the second start in a row that led to nothing
MAX_BACKOFF_S = 5.0
START_PATIENCE_S = (
    5.0  # starts may fail for so long before the tasks that wait for one are failed too
)
JITTER = (
    0.2  # recycling limits vary by this share, so that workers started together do not go together
)
SETTLE_S = 0.01  # from saying stop to a worker until it has certainly seen that, or told that it begins a call
STALL_S = 0.05  # after so long those that have not begun are taken back
ORPHAN_S = 10.0  # how long a running task whose client has gone may go on


class Workers:
    """Every worker that has not ended yet, by state."""

    def __init__(
        self,
        limits: Limits,
        waiting: Sized,
        recorder: Recorder,
        actions: list[Action],
        jitter: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.closing = False  # no tasks come any more, so nobody is kept for them
        self.all: dict[int, Worker] = {}
        self.starting: dict[int, Worker] = {}
        self.idle: dict[
            int, Worker
        ] = {}  # the last one in is the first to get work, so that spare ones stay idle
        self.busy: dict[int, Worker] = {}
        self.retiring: dict[
            int, Worker
        ] = {}  # idle or busy ones that go as soon as their replacement is ready
        self.next_start_at = 0.0
        self._boot_s = 0.0  # what the last start took
        self.is_settled = (
            False  # whether there are as many as there should be, unless more tasks wait
        )
        self.is_elastic = False  # whether idle ones may go
        self.timers: Timers[Worker | Workers] = Timers(
            self._is_live
        )  # the workers: a start that had to wait
        self._start_alarm_at = 0.0
        self._failures = 0  # deaths since a worker last did anything useful
        self._failing_since = math.inf  # the first failed start since a worker last booted
        self.start_failure = ""  # how the last start failed
        self._sizes = (0, 0)
        self._ids = itertools.count(1)
        self._waiting = waiting  # the tasks that no worker has
        self._recorder = recorder
        self._actions = actions
        self._jitter = jitter

    @property
    def size(self) -> int:
        """Workers that count towards the wanted number."""
        return len(self.starting) + len(self.idle) + len(self.busy) - len(self.retiring)

    # What workers do.

    def booted(self, worker: Worker, now: float) -> None:
        """Note that a worker said it is ready, and draw when it is to be recycled."""
        del self.starting[worker.id]
        self._boot_s = now - (worker.boot_until - self.limits.boot_timeout)
        worker.boot_until = self._failing_since = math.inf
        if self.limits.max_tasks is not None:
            worker.tasks_left = max(1, round(self._vary(self.limits.max_tasks)))
        if self.limits.max_age is not None:
            worker.retire_at = now + self._vary(self.limits.max_age)
            self.timers.add(worker.retire_at, worker)
        self._rest(worker, now)
        self._watch_idle(worker, now)
        self.is_settled = False

    def engage(self, batch: list[Task], batch_id: int, now: float) -> Worker:
        """Give a batch to the worker that was busy last."""
        _, worker = self.idle.popitem()
        self.busy[worker.id] = worker
        worker.state = WorkerState.BUSY
        worker.batch, worker.batch_id, worker.sent_at = batch, batch_id, now
        worker.kill_at = worker.hold_at = math.inf
        worker.is_held = False
        worker.tasks_left -= len(batch)
        if len(batch) > 1 and not batch[0].function.max_size:
            worker.hold_at = now + STALL_S
            self.timers.add(worker.hold_at, worker)
        return worker

    def release(self, worker: Worker, now: float, *, rss: int) -> None:
        """A worker has answered its batch: it is idle, or goes if its time has come."""
        self._failures = 0
        self._rest(worker, now)
        self._recycle_if_due(worker, rss)
        if not self.is_settled and worker in self._surplus():
            # At once: a busy pool would have the next task for it. No waiting task was taken in on its account.
            self.end(worker, WorkerState.STOPPING)
        elif self.is_elastic:
            self._watch_idle(worker, now)

    def is_needed(self, worker_id: int) -> bool:
        """Whether a worker has not been told to go."""
        worker = self.all.get(worker_id)
        return worker is not None and worker.state in (
            WorkerState.STARTING,
            WorkerState.IDLE,
            WorkerState.BUSY,
        )

    def cannot_start(self, now: float) -> bool:
        """Whether there is no worker, and has been none that started for longer than a passing shortage lasts."""
        return now - self._failing_since >= START_PATIENCE_S and not self.idle and not self.busy

    def lost(self, worker: Worker, how: str, now: float) -> None:
        """A worker has ended, as it was told to or not."""
        if self.is_needed(worker.id):
            is_starting = worker.state is WorkerState.STARTING
            self._recorder.restarts["boot" if is_starting else "crash"] += 1
            if is_starting:
                self._note_failed_start(how, now)
            self._note_failure(now)
        self._dismiss(worker, WorkerState.KILLED)
        del self.all[worker.id]
        self.is_settled = False

    # What ends them.

    def end(self, worker: Worker, state: WorkerState) -> None:
        """Have a worker go: by itself, or at once. Whoever calls has seen to the tasks of its batch."""
        self._dismiss(worker, state)
        self._actions.append(Kill(worker.id) if state is WorkerState.KILLED else Stop(worker.id))
        self.is_settled = False

    def kill(self, worker: Worker, reason: str) -> None:
        """End a worker on purpose, which counts as a restart for that reason."""
        self._recorder.restarts[reason] += 1
        self.end(worker, WorkerState.KILLED)

    def give_up(self, worker: Worker, reason: str, batch_s: float) -> None:
        """Nobody waits for a worker's batch any more, which should take so long (0: nobody knows).

        It is killed, unless it should be done before a replacement could be ready: then it has twice the usual time.
        """
        if 0 < batch_s <= self._boot_s:
            self._kill_later(worker, reason, worker.sent_at + 2 * batch_s)
        else:
            self.kill(worker, reason)

    def orphan(self, worker: Worker, now: float) -> None:
        """The same where it was the client that went: its batch has ``ORPHAN_S``."""
        self._kill_later(worker, "cancel", now + ORPHAN_S)

    def _kill_later(self, worker: Worker, reason: str, when: float) -> None:
        worker.kill_reason = reason
        worker.kill_at = when
        self.timers.add(when, worker)

    def look(self, now: float) -> None:
        """Look at the workers whose moment has come."""
        while (subject := self.timers.pop_due(now)) is not None:
            if isinstance(subject, Worker):
                self._look_at(subject, now)

    def _look_at(self, worker: Worker, now: float) -> None:
        if worker.boot_until <= now and worker.state is WorkerState.STARTING:
            self._note_failed_start(f"was not ready within {self.limits.boot_timeout:g} s", now)
            self._note_failure(now)
            self.kill(worker, "boot")
        if worker.retire_at <= now and worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            self._retire(worker, "age")
        if worker.kill_at <= now and worker.state is WorkerState.BUSY and not worker.is_awaited():
            self.kill(worker, worker.kill_reason)
        if worker.hold_at <= now and worker.state is WorkerState.BUSY:
            worker.hold_at = math.inf if worker.is_held else now + SETTLE_S
            if not worker.is_held:
                self.timers.add(worker.hold_at, worker)
            self._actions.append(Reclaim(worker.id) if worker.is_held else Hold(worker.id))
            worker.is_held = True
        if worker.idle_look_at <= now:
            worker.idle_look_at = math.inf
            idle_until = worker.idle_since + self.limits.idle_timeout
            # A task that was taken in on its account, in this very turn, is not left without it.
            is_free = worker.state is WorkerState.IDLE and len(self.idle) > len(self._waiting)
            if is_free and idle_until <= now and self._is_spare(worker):
                self.end(worker, WorkerState.STOPPING)
            else:
                self._watch_idle(worker, now)

    def _watch_idle(self, worker: Worker, now: float) -> None:
        """Have a worker that the pool may spare looked at when it can have been idle long enough."""
        if (
            self.is_elastic
            and worker.idle_look_at == math.inf
            and worker.state in (WorkerState.IDLE, WorkerState.BUSY)
        ):
            idle_until = worker.idle_since + self.limits.idle_timeout
            worker.idle_look_at = idle_until if idle_until > now else now + self.limits.idle_timeout
            self.timers.add(worker.idle_look_at, worker)

    def _is_live(self, when: float, subject: "Worker | Workers") -> bool:
        if isinstance(subject, Workers):
            return when == self._start_alarm_at
        look_at = (
            subject.boot_until,
            subject.idle_look_at,
            subject.retire_at,
            subject.kill_at,
            subject.hold_at,
        )
        return subject.id in self.all and when in look_at

    def _recycle_if_due(self, worker: Worker, rss: int) -> None:
        if worker.tasks_left <= 0:
            self._retire(worker, "tasks")
        elif self.limits.max_rss is not None and rss > self.limits.max_rss:
            self._retire(worker, "rss")

    def _retire(self, worker: Worker, reason: str) -> None:
        if worker.id not in self.retiring:
            self.retiring[worker.id] = worker
            self.is_settled = False
            self._recorder.restarts[reason] += 1

    # How many there are.

    def mend(self, now: float) -> None:
        """Make the workers as many as they should be while so many tasks wait as do."""
        if not self.is_settled:
            for worker in self._surplus():
                self.end(
                    worker,
                    WorkerState.KILLED if worker.id in self.starting else WorkerState.STOPPING,
                )
        if not self.is_settled or (self._waiting and self.size < self.limits.max_workers):
            self._hire(now)
        self.note_sizes(now)

    def note_sizes(self, now: float) -> None:
        """Tell the recorder how many workers there are, and how many of them are busy."""
        sizes = len(self.busy), len(self.busy) + len(self.idle)
        if sizes != self._sizes:
            self._sizes = sizes
            self._recorder.sizes(*sizes, now)

    def _hire(self, now: float) -> None:
        # Anything that ends with a batch is looked at again when one does.
        self.is_settled = not (self.closing or self.retiring or self.size > self.limits.max_workers)
        was_elastic, self.is_elastic = (
            self.is_elastic,
            self.limits.min_workers < self.limits.max_workers,
        )
        if self.is_elastic and not was_elastic:
            for worker in self.idle.values():
                self._watch_idle(worker, now)
        missing = self._wanted() - self.size
        if missing > 0 and now < self.next_start_at:
            self.is_settled = False
            if self._start_alarm_at != self.next_start_at:
                self._start_alarm_at = self.next_start_at
                self.timers.add(self.next_start_at, self)
            return
        for _ in range(missing):
            worker = Worker(next(self._ids), now + self.limits.boot_timeout)
            self.all[worker.id] = self.starting[worker.id] = worker
            self.timers.add(worker.boot_until, worker)
            self._actions.append(Start(worker.id))

    def _wanted(self) -> int:
        least = 0 if self.closing else self.limits.min_workers
        unmet = max(0, len(self._waiting) - len(self.starting) - len(self.idle))
        return min(self.limits.max_workers, max(least, self.size + unmet))

    def _surplus(self) -> list[Worker]:
        """Return the workers that are to go now, none of them busy; when all is done that is everyone."""
        if self.closing and not self._waiting:
            return [*self.starting.values(), *self.idle.values()]
        # A retiring worker goes when fewer replacements are awaited than there are workers that retire.
        awaited = len(self.starting) + max(0, self._wanted() - self.size)
        replaced = list(self.retiring.values())[: max(0, len(self.retiring) - awaited)]
        gone = [worker for worker in replaced if worker.state is WorkerState.IDLE]
        too_many = max(0, self.size - self.limits.max_workers)
        return (
            gone
            + [worker for worker in self.idle.values() if worker.id not in self.retiring][:too_many]
        )

    def _is_spare(self, worker: Worker) -> bool:
        """Whether an idle worker may go without the pool falling below its least size."""
        return self.size > self.limits.min_workers or worker.id in self.retiring

    # Small steps.

    def _rest(self, worker: Worker, now: float) -> None:
        self.busy.pop(worker.id, None)
        worker.state = WorkerState.IDLE
        worker.idle_since = now
        worker.batch = []
        self.idle[worker.id] = worker

    def _dismiss(self, worker: Worker, state: WorkerState) -> None:
        """Take a worker out of service; it is remembered until it has ended."""
        for group in (self.starting, self.idle, self.busy, self.retiring):
            group.pop(worker.id, None)
        worker.state = state
        worker.batch = []

    def _note_failed_start(self, how: str, now: float) -> None:
        self.start_failure = how
        self._failing_since = min(self._failing_since, now)

    def _note_failure(self, now: float) -> None:
        """Count a death. From the second in a row on, the next start waits, longer each time up to a limit."""
        self._failures += 1
        if self._failures > 1:
            delay_s = min(MAX_BACKOFF_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures - 2, 30))
            self.next_start_at = now + delay_s

    def _vary(self, limit: float) -> float:
        return limit * (1.0 - JITTER * self._jitter())
