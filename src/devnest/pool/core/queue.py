"""Waiting tasks in the order they are to run: by aged priority, then keys in turns, then by arrival.

A level holds one priority. In it each source (a client of the shared pool) takes turns with the other
sources, and inside a source each key takes turns with the other keys; inside a key the order is that of
arrival. Which level goes next is decided by the task each level would give: its priority less one for every
``AGEING_S`` it has waited. So every task that is next in its level gains on the more urgent levels until it
goes, and then the next one does.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator

from devnest.pool.core.tasks import Task
from devnest.pool.functions import Function

__all__ = ["AGEING_S", "Queue"]

AGEING_S = 1.0  # waiting this long is worth one step of priority

_Line = OrderedDict[Task, None]  # ordered, and a task is taken out of the middle in O(1)
_Owner = tuple[int, str]  # source and key


class Queue:
    """A bounded queue is its owner's business; this one only orders. Not for use from several threads."""

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
                for line in keys.values():
                    yield from line

    def count_by_priority(self) -> dict[int, int]:
        """Return how many tasks wait in each priority that has any."""
        return {priority: level.length for priority, level in sorted(self._levels.items())}

    def count_of(self, function: Function) -> int:
        """Return how many tasks of a function wait."""
        return self._functions[function]

    def push(self, task: Task) -> None:
        """Put a task at the end of its key's line."""
        level = self._levels.get(task.priority)
        if level is None:
            level = self._levels[task.priority] = _Level()
        level.push(task)
        self._functions[task.function] += 1
        self._lengths.grow((task.source, task.key))
        self._length += 1

    def remove(self, task: Task) -> None:
        """Take a waiting task out, wherever it is, in O(1)."""
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
        """Take out the task whose turn it is."""
        if len(self._levels) == 1:
            (level,) = self._levels.values()
        else:
            level = self._in_order(now)[0]
        task = level.next()
        assert task is not None
        self._take(level, task)
        return task

    def pop_more(
        self, function: Function, size: int, now: float, *, clocks: bool = True
    ) -> list[Task]:
        """Take out up to ``size`` more tasks of one function, none of them ahead of its own key's line.

        Without ``clocks``, only tasks that have no timeout and no deadline.
        """
        taken: list[Task] = []
        for level in self._in_order(now):
            while len(taken) < size and (task := level.next(function, clocks=clocks)):
                self._take(level, task)
                taken.append(task)
        return taken

    def longest(self) -> int:
        """Return the length of the longest line, all priorities together, in O(1)."""
        return self._lengths.longest()

    def last_of_longest(self) -> Task:
        """Return the newest of the least urgent tasks of a longest line, without a look at the other lines."""
        source, key = self._lengths.owner_of_longest()
        _, line = max(
            (priority, line)
            for priority, level in self._levels.items()
            if (line := level.line(source, key))
        )
        return next(reversed(line))

    def length_of(self, source: int, key: str) -> int:
        """Return how many tasks of a key wait, in all priorities."""
        return self._lengths.of((source, key))

    def cost_ahead(self, priority: int, source: int, key: str) -> float:
        """Estimate the seconds of work that would go before a task that joined now."""
        cost = sum(level.cost_s for other, level in self._levels.items() if other < priority)
        own = self._levels.get(priority)
        if own is None:
            return cost
        keys = sum(len(keys) for keys in own.turns.values())
        ahead = (
            len(own.line(source, key) or ()) + 1
        ) * keys  # each of the other keys goes once for each of ours
        return cost + own.cost_s * min(1.0, ahead / own.length)

    def cost_s(self) -> float:
        """Return the expected seconds of work of all that wait."""
        return sum(level.cost_s for level in self._levels.values())

    def _in_order(self, now: float) -> list["_Level"]:
        return sorted(self._levels.values(), key=lambda level: level.urgency(now))

    def _take(self, level: "_Level", task: Task) -> None:
        level.end_turn(task)
        self.remove(task)


class _Level:
    """The tasks of one priority: source → key → line, the first of each being the one whose turn it is."""

    __slots__ = ("cost_s", "length", "turns")

    def __init__(self) -> None:
        self.turns: OrderedDict[int, OrderedDict[str, _Line]] = OrderedDict()
        self.length = 0
        self.cost_s = 0.0

    def push(self, task: Task) -> None:
        keys = self.turns.get(task.source)
        if keys is None:
            keys = self.turns[task.source] = OrderedDict()
        line = keys.get(task.key)
        if line is None:
            line = keys[task.key] = OrderedDict()
        line[task] = None
        self.length += 1
        self.cost_s += task.cost_s

    def remove(self, task: Task) -> None:
        keys = self.turns[task.source]
        line = keys[task.key]
        del line[task]
        if not line:
            del keys[task.key]
            if not keys:
                del self.turns[task.source]
        self.length -= 1
        self.cost_s = max(0.0, self.cost_s - task.cost_s)

    def next(self, function: Function | None = None, *, clocks: bool = True) -> Task | None:
        """Return the head of the first line in turn, or of the first whose head is of this function."""
        for keys in self.turns.values():
            for line in keys.values():
                head = next(iter(line))
                if function is None or (
                    head.function == function and (clocks or not head.has_clock())
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

    def line(self, source: int, key: str) -> _Line | None:
        keys = self.turns.get(source)
        return keys.get(key) if keys else None


class _Lengths:
    """How many tasks each source has of each key, and who has most: kept, not counted when the queue is full."""

    __slots__ = ("_by_length", "_lengths")

    def __init__(self) -> None:
        self._lengths: dict[_Owner, int] = {}
        self._by_length: list[dict[_Owner, None]] = [{}]  # by number of tasks; none are kept for 0

    def of(self, owner: _Owner) -> int:
        return self._lengths.get(owner, 0)

    def longest(self) -> int:
        return len(self._by_length) - 1

    def owner_of_longest(self) -> _Owner:
        longest = self._by_length[-1]
        owner, _ = (
            longest.popitem()
        )  # unlike the first of an iteration, not behind all that were deleted
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
