"""The workers of a pool: how many there should be, which ones end and why, and when one may start.

Only the scheduler calls this module. Like the scheduler it has no I/O and no clock: it appends to
the scheduler's list of actions. `docs/decisions/0020-pool.md` has the states of a worker.
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

# From the second death in a row on, the next start is delayed. The delay doubles up to the maximum.
MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
# When starts have failed for this long, the waiting tasks fail too. A shorter failure may be a
# passing shortage of memory or processes.
MAX_START_FAILURE_S = 5.0
# Each worker's recycling limits are lowered by a random share up to this one, so that workers that
# started together are not replaced together.
RECYCLE_JITTER = 0.2
# Coalesced calls that have not begun after this time are given to other workers. A whole frame is
# expected to take `backlog.MAX_COALESCED_S`, 2 ms, so a call ahead of them must have stalled.
HOLD_AFTER_S = 0.05
# Time from `Hold` to `Reclaim`. By then the worker has seen the stop flag, or has published the
# call that it was about to begin; `runtime/progress.py` explains it.
RECLAIM_DELAY_S = 0.01
MAX_ORPHAN_RUN_S = 10.0  # a task whose client disconnected is killed after running so much longer


class Workers:
    """The records of all workers that have not ended yet, by state."""

    def __init__(
        self,
        limits: Limits,
        waiting: Sized,
        recorder: Recorder,
        actions: list[Action],
        jitter: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.closing = False  # no tasks will come, so `min_workers` no longer counts
        self.all: dict[int, Worker] = {}
        self.starting: dict[int, Worker] = {}
        # Last in, first out: spare workers stay idle, and can end after `idle_timeout`.
        self.idle: dict[int, Worker] = {}
        self.busy: dict[int, Worker] = {}
        self.retiring: dict[int, Worker] = {}  # idle or busy ones that end once they are replaced
        self.next_start_at = 0.0
        self._boot_s = 0.0  # duration of the last start
        self.is_right_size = False  # whether nothing has to start or end unless more tasks wait
        self.is_elastic = False  # whether idle workers may end
        # A timer for `Workers` itself is for a delayed start.
        self.timers: Timers[Worker | Workers] = Timers(self._is_live)
        self._start_timer_at = 0.0
        self._failures = 0  # deaths since a worker last answered a batch
        self._failing_since = math.inf  # the first failed start since a worker last became ready
        self.start_failure = ""  # how the last start failed
        self._sizes = (0, 0)
        self._ids = itertools.count(1)
        self._waiting = waiting  # the backlog
        self._recorder = recorder
        self._actions = actions
        self._jitter = jitter

    @property
    def size(self) -> int:
        """The number of workers, without those that are retiring."""
        return len(self.starting) + len(self.idle) + len(self.busy) - len(self.retiring)

    # Events.

    def record_ready(self, worker: Worker, now: float) -> None:
        """Record that a worker is ready, and draw its recycling limits."""
        del self.starting[worker.id]
        self._boot_s = now - (worker.boot_until - self.limits.boot_timeout)
        worker.boot_until = self._failing_since = math.inf
        if self.limits.max_tasks is not None:
            worker.tasks_left = max(1, round(self._with_jitter(self.limits.max_tasks)))
        if self.limits.max_age is not None:
            worker.retire_at = now + self._with_jitter(self.limits.max_age)
            self.timers.add(worker.retire_at, worker)
        self._make_idle(worker, now)
        self._watch_idle(worker, now)
        self.is_right_size = False

    def assign(self, batch: list[Task], batch_id: int, now: float) -> Worker:
        """Give a batch to the worker that was busy most recently."""
        _, worker = self.idle.popitem()
        self.busy[worker.id] = worker
        worker.state = WorkerState.BUSY
        worker.batch, worker.batch_id, worker.sent_at = batch, batch_id, now
        worker.kill_at = worker.hold_at = math.inf
        worker.is_held = False
        worker.tasks_left -= len(batch)
        if len(batch) > 1 and not batch[0].function.max_size:
            worker.hold_at = now + HOLD_AFTER_S
            self.timers.add(worker.hold_at, worker)
        return worker

    def release(self, worker: Worker, now: float, *, rss: int) -> None:
        """Record that a worker answered its batch: it becomes idle, or stops if it is surplus."""
        self._failures = 0
        self._make_idle(worker, now)
        self._recycle_if_due(worker, rss)
        if not self.is_right_size and worker in self._surplus():
            # Stop it now, or a busy pool would give it the next task. It was not counted as idle,
            # so no waiting task was admitted because of it.
            self.end(worker, WorkerState.STOPPING)
        elif self.is_elastic:
            self._watch_idle(worker, now)

    def is_needed(self, worker_id: int) -> bool:
        """Whether a worker has not been asked to end."""
        worker = self.all.get(worker_id)
        return worker is not None and worker.state in (
            WorkerState.STARTING,
            WorkerState.IDLE,
            WorkerState.BUSY,
        )

    def cannot_start(self, now: float) -> bool:
        """Whether no worker is ready and starts have failed for `MAX_START_FAILURE_S`."""
        return now - self._failing_since >= MAX_START_FAILURE_S and not self.idle and not self.busy

    def record_end(self, worker: Worker, how: str, now: float) -> None:
        """Record that a worker has ended, whether it was asked to or not."""
        if self.is_needed(worker.id):
            is_starting = worker.state is WorkerState.STARTING
            self._recorder.restarts["boot" if is_starting else "crash"] += 1
            if is_starting:
                self._note_failed_start(how, now)
            self._note_failure(now)
        self._deregister(worker, WorkerState.KILLED)
        del self.all[worker.id]
        self.is_right_size = False

    # Ending workers.

    def end(self, worker: Worker, state: WorkerState) -> None:
        """Stop or kill a worker, according to `state`; the caller has taken care of its batch."""
        self._deregister(worker, state)
        self._actions.append(Kill(worker.id) if state is WorkerState.KILLED else Stop(worker.id))
        self.is_right_size = False

    def kill(self, worker: Worker, reason: str) -> None:
        """Kill a worker and count a restart for that reason."""
        self._recorder.restarts[reason] += 1
        self.end(worker, WorkerState.KILLED)

    def abandon(self, worker: Worker, reason: str, batch_s: float) -> None:
        """Kill a worker whose batch nobody waits for, unless it will probably finish soon.

        A batch that is expected to take less time than a replacement needs to start may run for
        twice its expected time.

        Args:
            worker: The worker.
            reason: Under which reason a kill counts as a restart.
            batch_s: The expected run time of the batch in seconds; 0 if it is unknown.
        """
        if 0 < batch_s <= self._boot_s:
            self._kill_later(worker, reason, worker.sent_at + 2 * batch_s)
        else:
            self.kill(worker, reason)

    def orphan(self, worker: Worker, now: float) -> None:
        """Kill a worker of a disconnected client after `MAX_ORPHAN_RUN_S`, if it still runs."""
        self._kill_later(worker, "cancel", now + MAX_ORPHAN_RUN_S)

    def _kill_later(self, worker: Worker, reason: str, when: float) -> None:
        worker.kill_reason = reason
        worker.kill_at = when
        self.timers.add(when, worker)

    def check_due(self, now: float) -> None:
        """Check all workers whose timers are due."""
        while (subject := self.timers.pop_due(now)) is not None:
            if isinstance(subject, Worker):
                self._check(subject, now)

    def _check(self, worker: Worker, now: float) -> None:
        if worker.boot_until <= now and worker.state is WorkerState.STARTING:
            self._note_failed_start(f"was not ready within {self.limits.boot_timeout:g} s", now)
            self._note_failure(now)
            self.kill(worker, "boot")
        if worker.retire_at <= now and worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            self._retire(worker, "age")
        if worker.kill_at <= now and worker.state is WorkerState.BUSY and not worker.is_awaited():
            self.kill(worker, worker.kill_reason)
        if worker.hold_at <= now and worker.state is WorkerState.BUSY:
            worker.hold_at = math.inf if worker.is_held else now + RECLAIM_DELAY_S
            if not worker.is_held:
                self.timers.add(worker.hold_at, worker)
            self._actions.append(Reclaim(worker.id) if worker.is_held else Hold(worker.id))
            worker.is_held = True
        if worker.idle_check_at <= now:
            worker.idle_check_at = math.inf
            idle_until = worker.idle_since + self.limits.idle_timeout
            # A task may have been admitted in this event loop iteration because the worker is idle.
            is_free = worker.state is WorkerState.IDLE and len(self.idle) > len(self._waiting)
            if is_free and idle_until <= now and self._is_spare(worker):
                self.end(worker, WorkerState.STOPPING)
            else:
                self._watch_idle(worker, now)

    def _watch_idle(self, worker: Worker, now: float) -> None:
        """Set a timer for the time at which a worker will have been idle for `idle_timeout`."""
        if (
            self.is_elastic
            and worker.idle_check_at == math.inf
            and worker.state in (WorkerState.IDLE, WorkerState.BUSY)
        ):
            idle_until = worker.idle_since + self.limits.idle_timeout
            worker.idle_check_at = (
                idle_until if idle_until > now else now + self.limits.idle_timeout
            )
            self.timers.add(worker.idle_check_at, worker)

    def _is_live(self, when: float, subject: "Worker | Workers") -> bool:
        if isinstance(subject, Workers):
            return when == self._start_timer_at
        moments = (
            subject.boot_until,
            subject.idle_check_at,
            subject.retire_at,
            subject.kill_at,
            subject.hold_at,
        )
        return subject.id in self.all and when in moments

    def _recycle_if_due(self, worker: Worker, rss: int) -> None:
        if worker.tasks_left <= 0:
            self._retire(worker, "tasks")
        elif self.limits.max_rss is not None and rss > self.limits.max_rss:
            self._retire(worker, "rss")

    def _retire(self, worker: Worker, reason: str) -> None:
        if worker.id not in self.retiring:
            self.retiring[worker.id] = worker
            self.is_right_size = False
            self._recorder.restarts[reason] += 1

    # The number of workers.

    def adjust_size(self, now: float) -> None:
        """Start or end workers, according to the limits and the number of waiting tasks."""
        if not self.is_right_size:
            for worker in self._surplus():
                self.end(
                    worker,
                    WorkerState.KILLED if worker.id in self.starting else WorkerState.STOPPING,
                )
        if not self.is_right_size or (self._waiting and self.size < self.limits.max_workers):
            self._start_missing(now)
        self.note_sizes(now)

    def note_sizes(self, now: float) -> None:
        """Tell the recorder the numbers of workers and busy workers, if they changed."""
        sizes = len(self.busy), len(self.busy) + len(self.idle)
        if sizes != self._sizes:
            self._sizes = sizes
            self._recorder.sizes(*sizes, now)

    def _start_missing(self, now: float) -> None:
        # A surplus or retiring worker may be busy: check again when it has answered its batch.
        self.is_right_size = not (
            self.closing or self.retiring or self.size > self.limits.max_workers
        )
        was_elastic, self.is_elastic = (
            self.is_elastic,
            self.limits.min_workers < self.limits.max_workers,
        )
        if self.is_elastic and not was_elastic:
            for worker in self.idle.values():
                self._watch_idle(worker, now)
        missing = self._wanted() - self.size
        if missing > 0 and now < self.next_start_at:
            self.is_right_size = False
            if self._start_timer_at != self.next_start_at:
                self._start_timer_at = self.next_start_at
                self.timers.add(self.next_start_at, self)
            return
        for _ in range(missing):
            worker = Worker(next(self._ids), now + self.limits.boot_timeout)
            self.all[worker.id] = self.starting[worker.id] = worker
            self.timers.add(worker.boot_until, worker)
            self._actions.append(Start(worker.id))

    def _wanted(self) -> int:
        minimum = 0 if self.closing else self.limits.min_workers
        unmet = max(0, len(self._waiting) - len(self.starting) - len(self.idle))
        return min(self.limits.max_workers, max(minimum, self.size + unmet))

    def _surplus(self) -> list[Worker]:
        """Return the workers to end now, none of them busy; when closing without tasks, all."""
        if self.closing and not self._waiting:
            return [*self.starting.values(), *self.idle.values()]
        # Each worker that is starting or still to be started keeps one retiring worker in service.
        awaited = len(self.starting) + max(0, self._wanted() - self.size)
        replaced = list(self.retiring.values())[: max(0, len(self.retiring) - awaited)]
        gone = [worker for worker in replaced if worker.state is WorkerState.IDLE]
        too_many = max(0, self.size - self.limits.max_workers)
        return (
            gone
            + [worker for worker in self.idle.values() if worker.id not in self.retiring][:too_many]
        )

    def _is_spare(self, worker: Worker) -> bool:
        """Whether an idle worker may end without going below `min_workers`."""
        return self.size > self.limits.min_workers or worker.id in self.retiring

    # Helpers.

    def _make_idle(self, worker: Worker, now: float) -> None:
        self.busy.pop(worker.id, None)
        worker.state = WorkerState.IDLE
        worker.idle_since = now
        worker.batch = []
        self.idle[worker.id] = worker

    def _deregister(self, worker: Worker, state: WorkerState) -> None:
        """Take a worker out of service; `all` keeps it until it has ended."""
        for group in (self.starting, self.idle, self.busy, self.retiring):
            group.pop(worker.id, None)
        worker.state = state
        worker.batch = []

    def _note_failed_start(self, how: str, now: float) -> None:
        self.start_failure = how
        self._failing_since = min(self._failing_since, now)

    def _note_failure(self, now: float) -> None:
        """Count a death, and delay the next start from the second death in a row on."""
        self._failures += 1
        if self._failures > 1:
            delay_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(self._failures - 2, 30))
            self.next_start_at = now + delay_s

    def _with_jitter(self, limit: float) -> float:
        return limit * (1.0 - RECYCLE_JITTER * self._jitter())
