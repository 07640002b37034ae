"""The order of waiting tasks: by aged priority, then sources and keys in turns, then by arrival.

All tasks of one priority form a level. Inside a level, the sources (clients of a shared pool) take
turns. Inside a source, the keys take turns. Inside a key, tasks run in order of arrival.

To choose between levels, the queue compares the next task of each level: its priority, less one for
every `AGEING_S` seconds that it has waited. So the next task of every level gains on more urgent
levels until it runs, and no task starves.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator

from devnest.pool.core.tasks import Task
from devnest.pool.functions import Function

__all__ = ["AGEING_S", "Queue"]

AGEING_S = 1.0  # waiting this long raises a task by one step of priority, so that none starves

_KeyQueue = OrderedDict[Task, None]  # in order of arrival; any task can be removed in O(1)
_Owner = tuple[int, str]  # source and key


class Queue:
    """An unbounded queue that only decides the order; its owner bounds it. Not thread-safe."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._functions: Counter[Function] = Counter()
        self._lengths = _Lengths()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Task]:
        for level in self._levels.values():
            for keys in level.turns.values():
                for key_queue in keys.values():
                    yield from key_queue

    def count_by_priority(self) -> dict[int, int]:
        """Return how many tasks wait in each priority that has any."""
        return {priority: level.length for priority, level in sorted(self._levels.items())}

    def count_of(self, function: Function) -> int:
        """Return how many tasks of a function wait."""
        return self._functions[function]

    def push(self, task: Task) -> None:
        """Add a task behind the waiting tasks of its key."""
        level = self._levels.get(task.priority)
        if level is None:
            level = self._levels[task.priority] = _Level()
        level.push(task)
        self._functions[task.function] += 1
        self._lengths.grow((task.source, task.key))
        self._length += 1

    def remove(self, task: Task) -> None:
        """Remove a waiting task in O(1), wherever it is."""
        level = self._levels[task.priority]
        level.remove(task)
        if not level.length:
            del self._levels[task.priority]
        self._functions[task.function] -= 1
        if not self._functions[task.function]:
            del self._functions[task.function]
        self._lengths.shrink((task.source, task.key))
        self._length -= 1

    def pop(self, now: float) -> Task:
        """Remove and return the next task."""
        if len(self._levels) == 1:
            (level,) = self._levels.values()
        else:
            level = self._in_order(now)[0]
        task = level.next()
        assert task is not None
        self._take(level, task)
        return task

    def pop_more(
        self, function: Function, size: int, now: float, *, with_timeout: bool = True
    ) -> list[Task]:
        """Remove and return up to `size` more tasks of a function, each the first of its key.

        Unless `with_timeout` is true, only tasks without a timeout are taken.
        """
        taken: list[Task] = []
        for level in self._in_order(now):
            while len(taken) < size and (task := level.next(function, with_timeout=with_timeout)):
                self._take(level, task)
                taken.append(task)
        return taken

    def longest_length(self) -> int:
        """Return the largest number of tasks that one key has in all priorities, in O(1)."""
        return self._lengths.longest_length()

    def newest_of_longest(self) -> Task:
        """Return the newest of the least urgent tasks of a key that has the most tasks."""
        source, key = self._lengths.owner_of_longest()
        _, key_queue = max(
            (priority, key_queue)
            for priority, level in self._levels.items()
            if (key_queue := level.key_queue(source, key))
        )
        return next(reversed(key_queue))

    def length_of(self, source: int, key: str) -> int:
        """Return how many tasks of a key wait in all priorities."""
        return self._lengths.of((source, key))

    def cost_ahead(self, priority: int, source: int, key: str) -> float:
        """Estimate the seconds of work that would run before a task submitted now."""
        cost = sum(level.cost_s for other, level in self._levels.items() if other < priority)
        own = self._levels.get(priority)
        if own is None:
            return cost
        keys = sum(len(keys) for keys in own.turns.values())
        # For each waiting task of this key, every other key runs one task first.
        ahead = (len(own.key_queue(source, key) or ()) + 1) * keys
        return cost + own.cost_s * min(1.0, ahead / own.length)

    def cost_s(self) -> float:
        """Return the expected seconds of work of all waiting tasks."""
        return sum(level.cost_s for level in self._levels.values())

    def _in_order(self, now: float) -> list["_Level"]:
        return sorted(self._levels.values(), key=lambda level: level.urgency(now))

    def _take(self, level: "_Level", task: Task) -> None:
        level.end_turn(task)
        self.remove(task)


class _Level:
    """The tasks of one priority, by source and key; the first key of the first source is next."""

    __slots__ = ("cost_s", "length", "turns")

    def __init__(self) -> None:
        self.turns: OrderedDict[int, OrderedDict[str, _KeyQueue]] = OrderedDict()
        self.length = 0
        self.cost_s = 0.0

    def push(self, task: Task) -> None:
        keys = self.turns.get(task.source)
        if keys is None:
            keys = self.turns[task.source] = OrderedDict()
        key_queue = keys.get(task.key)
        if key_queue is None:
            key_queue = keys[task.key] = OrderedDict()
        key_queue[task] = None
        self.length += 1
        self.cost_s += task.cost_s

    def remove(self, task: Task) -> None:
        keys = self.turns[task.source]
        key_queue = keys[task.key]
        del key_queue[task]
        if not key_queue:
            del keys[task.key]
            if not keys:
                del self.turns[task.source]
        self.length -= 1
        self.cost_s = max(0.0, self.cost_s - task.cost_s)

    def next(self, function: Function | None = None, *, with_timeout: bool = True) -> Task | None:
        """Return the next task, or the next one of `function` that is the first of its key."""
        for keys in self.turns.values():
            for key_queue in keys.values():
                head = next(iter(key_queue))
                if function is None or (
                    head.function == function and (with_timeout or head.timeout_s == math.inf)
                ):
                    return head
        return None

    def end_turn(self, task: Task) -> None:
        self.turns.move_to_end(task.source)
        self.turns[task.source].move_to_end(task.key)

    def urgency(self, now: float) -> float:
        head = self.next()
        assert head is not None
        return head.priority - (now - head.enqueued_at) / AGEING_S

    def key_queue(self, source: int, key: str) -> _KeyQueue | None:
        keys = self.turns.get(source)
        return keys.get(key) if keys else None


class _Lengths:
    """The number of tasks of each source and key, and which has the most, each found in O(1)."""

    __slots__ = ("_by_length", "_lengths")

    def __init__(self) -> None:
        self._lengths: dict[_Owner, int] = {}
        self._by_length: list[dict[_Owner, None]] = [
            {}
        ]  # index: number of tasks; index 0 stays empty

    def of(self, owner: _Owner) -> int:
        return self._lengths.get(owner, 0)

    def longest_length(self) -> int:
        return len(self._by_length) - 1

    def owner_of_longest(self) -> _Owner:
        longest = self._by_length[-1]
        # Not `next(iter(longest))`, which would step over every entry deleted before.
        owner, _ = longest.popitem()
        longest[owner] = None
        return owner

    def grow(self, owner: _Owner) -> None:
        by_length = self._by_length
        length = self._lengths.get(owner, 0) + 1
        self._lengths[owner] = length
        if length > 1:
            del by_length[length - 1][owner]
        if length == len(by_length):
            by_length.append({})
        by_length[length][owner] = None

    def shrink(self, owner: _Owner) -> None:
        by_length = self._by_length
        length = self._lengths[owner] - 1
        del by_length[length + 1][owner]
        if length:
            self._lengths[owner] = length
            by_length[length][owner] = None
        else:
            del self._lengths[owner]
        if not by_length[-1]:
            del by_length[-1]
