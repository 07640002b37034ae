"""The queue of mail that is written and sent after the answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import Message

import pytest
from structlog.testing import capture_logs

from devnest.mail import Failure, Outbox, Sender, compose
from devnest.mail.backlog import MAX_WAITING, MAX_WAITING_PER_NETWORK
from devnest.mail.outbox import KEEP_S, MAX_GROUP
from tests.support import PATIENCE_S

Fault = Callable[[Message], Failure | None]


class Recorder:
    """A transport that keeps subjects, fails as it is told, and can be made to wait."""

    def __init__(self, fault: Fault = lambda _: None) -> None:
        self.sent: list[str] = []
        self.tries: list[str] = []
        self.groups: list[int] = []
        self.fault = fault
        self.open = asyncio.Event()
        self.open.set()
        self.changed = asyncio.Event()

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        self.groups.append(len(messages))
        self.tries += [message["Subject"] for message in messages]
        self.changed.set()
        await self.open.wait()
        failures = [failure for failure in map(self.fault, messages) if failure is not None]
        failed = [failure.message for failure in failures]
        self.sent += [message["Subject"] for message in messages if message not in failed]
        self.changed.set()
        return failures

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that sending makes true."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


def fails(times: int, *, final: bool = False) -> Fault:
    """Each subject so many times."""
    seen = Counter[str]()

    def fault(message: Message) -> Failure | None:
        seen[message["Subject"]] += 1
        return Failure(message, "450 not now", final) if seen[message["Subject"]] <= times else None

    return fault


@asynccontextmanager
async def outbox_on(transport: Recorder) -> AsyncIterator[Outbox]:
    async with Outbox(transport, "devnest@example.org") as outbox:
        yield outbox


def put(outbox: Outbox, subject: str, network: str = "192.0.2.1", keep_s: float = KEEP_S) -> None:
    async def job() -> Message:
        return compose("devnest@example.org", "ada@example.org", subject, "text")

    outbox.put(job, sender=Sender(network), keep_s=keep_s)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is due again at once."""
    monkeypatch.setattr("devnest.mail.outbox.MIN_RETRY_S", 0.0)


async def test_jobs_are_done_before_the_end() -> None:
    """What waits when it closes is sent.

    A job may have nothing to send, and a broken one hurts no other.
    """

    async def nothing() -> None:
        return None

    async def broken() -> Message:
        raise RuntimeError("a job fails")

    transport = Recorder()
    async with outbox_on(transport) as outbox:
        outbox.put(nothing, sender=Sender("a"))
        outbox.put(broken, sender=Sender("a"))
        for number in range(20):
            put(outbox, str(number))
        assert transport.sent == []
    assert sorted(transport.sent, key=int) == [str(number) for number in range(20)]


async def test_what_waits_goes_together() -> None:
    """And no more at once than a server would take from one client."""
    transport = Recorder()
    async with outbox_on(transport) as outbox:
        for number in range(2 * MAX_GROUP + 5):
            put(outbox, str(number))
    assert sorted(transport.groups) == [5, MAX_GROUP, MAX_GROUP]


@pytest.mark.usefixtures("quick")
async def test_what_may_succeed_later_is_tried_again() -> None:
    """As often as it takes, alone."""
    transport = Recorder(fault := fails(7))
    async with outbox_on(transport) as outbox:
        put(outbox, "hello")
        await transport.until(lambda: bool(transport.sent))
    assert transport.sent == ["hello"]
    assert transport.tries == ["hello"] * 8
    assert fault is transport.fault


@pytest.mark.usefixtures("quick")
async def test_a_refusal_is_final_and_told() -> None:
    """The server's words are in the log, with the subject."""
    with capture_logs() as lines:
        transport = Recorder(fails(1, final=True))
        async with outbox_on(transport) as outbox:
            put(outbox, "hello")
    assert transport.tries == ["hello"]
    assert (outbox.sent, outbox.lost) == (0, {"dropped": 0, "refused": 1, "late": 0})
    assert [(line["event"], line["reason"], line["subject"]) for line in lines] == [
        ("mail refused", "450 not now", "hello")
    ]


async def test_each_wait_is_longer_until_it_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times as long, a quarter of an hour at most; a code is not mailed when it is dead."""
    transport = Recorder(fails(1000))
    async with outbox_on(transport) as outbox:
        clock, dues = 0.0, list[float]()
        monkeypatch.setattr(outbox, "_now", lambda: clock)
        put(outbox, "hello", keep_s=3600.0)
        for worker in outbox._workers:
            worker.cancel()
        while len(outbox._backlog):
            clock = outbox._backlog.next_due() or clock
            dues.append(clock)
            await outbox._deliver(outbox._backlog.take(clock, 1))
    waits = [after - before for before, after in zip([0.0, *dues[1:]], dues[1:], strict=False)]
    assert waits == [2.0, 6.0, 18.0, 54.0, 162.0, 486.0, 900.0, 900.0, 900.0]


@pytest.mark.usefixtures("quick")
async def test_a_job_that_fails_is_tried_again() -> None:
    """The database may be away for a while."""
    transport, calls = Recorder(), 0

    async def job() -> Message:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError("no database")
        return compose("devnest@example.org", "ada@example.org", "late", "text")

    async with outbox_on(transport) as outbox:
        outbox.put(job, sender=Sender("a"))
        await transport.until(lambda: bool(transport.sent))
    assert transport.sent == ["late"]


async def test_what_waits_for_another_try_gets_it_at_the_end() -> None:
    """One more, now; what fails then is lost, which is told."""
    transport = Recorder(fails(2))
    with capture_logs() as lines:
        async with outbox_on(transport) as outbox:
            put(outbox, "hello")
            await transport.until(lambda: len(transport.tries) == 1)
    assert transport.tries == ["hello"] * 2
    assert [line["lost"] for line in lines if line["event"] == "mail not sent"] == [0, 1]


async def test_a_sender_s_flood_costs_nobody_else_a_mail() -> None:
    """With a server that takes none for a while: only the flood's are dropped, and the others go
    before the rest.
    """
    transport = Recorder()
    transport.open.clear()
    with capture_logs() as lines:
        async with outbox_on(transport) as outbox:
            put(outbox, "first", "first")
            await transport.until(lambda: transport.groups == [1])
            for number in range(2 * MAX_WAITING):
                put(outbox, f"flood {number}", "flood")
            others = [f"other {number}" for number in range(50)]
            for other in others:
                put(outbox, other, other)
            transport.open.set()
            await transport.until(lambda: set(others) <= set(transport.sent))
            assert len(transport.sent) <= 1 + 2 * len(others) + 4 * MAX_GROUP
    assert (
        len([subject for subject in transport.sent if subject.startswith("flood")])
        <= MAX_WAITING_PER_NETWORK + 40
    )
    dropped = [line["mails"] for line in lines if line["event"].startswith("mail dropped")]
    assert sum(dropped) + len(transport.sent) == 2 * MAX_WAITING + 51
    assert (outbox.sent, outbox.lost["dropped"]) == (len(transport.sent), sum(dropped))
    assert len(dropped) <= 3  # lines, not one for each


async def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs holds no stop."""
    monkeypatch.setattr("devnest.mail.outbox.DRAIN_TIMEOUT_S", 0.05)
    transport = Recorder()
    transport.open.clear()
    async with outbox_on(transport) as outbox:
        put(outbox, "hello")
        await transport.until(lambda: transport.groups == [1])
    assert transport.sent == []
