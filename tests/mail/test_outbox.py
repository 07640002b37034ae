"""The queue of mail that is written and sent after the answer."""

import asyncio
from collections.abc import Sequence
from email.message import Message

import pytest

from devnest.mail import Failure, Outbox, compose


class Recorder:
    """A transport that keeps subjects, and fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[str] = []
        self.groups: list[int] = []
        self.failures = failures

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        self.groups.append(len(messages))
        failed = messages[: self.failures]
        self.failures -= len(failed)
        self.sent += [message["Subject"] for message in messages if message not in failed]
        return [(message, ConnectionRefusedError("not now")) for message in failed]


def mail(subject: str) -> Message:
    return compose("devnest@example.org", "ada@example.org", subject, "text")


async def message(subject: str) -> Message:
    return mail(subject)


async def nothing() -> None:
    return None


async def broken() -> Message:
    raise RuntimeError("a job fails")


async def test_jobs_are_done_before_the_end() -> None:
    """What waits when it closes is sent; a job may have nothing to send, and a broken one hurts no other."""
    transport = Recorder()
    async with Outbox(transport, "devnest@example.org") as outbox:
        outbox.put(nothing)
        outbox.put(broken)
        for number in range(20):
            outbox.put(lambda number=number: message(str(number)))  # type: ignore[misc]
        assert transport.sent == []
    assert sorted(transport.sent, key=int) == [str(number) for number in range(20)]


async def test_what_waits_goes_together() -> None:
    """And no more at once than a server would take from one client; who fails is tried again alone."""
    transport = Recorder(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devnest.mail.outbox.RETRY_S", 0.0)
        async with Outbox(transport, "devnest@example.org") as outbox:
            for number in range(120):
                outbox.put(lambda number=number: message(str(number)))  # type: ignore[misc]
    assert sorted(transport.groups) == [1, 20, 50, 50]
    assert sorted(transport.sent, key=int) == [str(number) for number in range(120)]


@pytest.mark.parametrize(("failures", "sent"), [(2, ["hello"]), (3, [])])
async def test_a_server_that_fails_is_tried_three_times(
    failures: int, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the mail is given up."""
    monkeypatch.setattr("devnest.mail.outbox.RETRY_S", 0.0)
    transport = Recorder(failures)
    async with Outbox(transport, "devnest@example.org") as outbox:
        outbox.put(lambda: message("hello"))
    assert transport.sent == sent


async def test_the_queue_is_bounded_and_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs holds neither memory nor a stop."""
    monkeypatch.setattr("devnest.mail.outbox.WAITING", 3)
    monkeypatch.setattr("devnest.mail.outbox.DRAIN_S", 0.05)
    made = []

    async def hangs() -> Message | None:
        made.append(True)
        await asyncio.Event().wait()
        return None

    async with Outbox(Recorder(), "devnest@example.org") as outbox:
        for _ in range(10):
            outbox.put(hangs)
    assert len(made) <= 3
