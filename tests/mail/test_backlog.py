"""Who waits, who goes first, and who has to go."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.mail.backlog import MAX_WAITING, MAX_WAITING_OF_ONE, Backlog, Mail


async def nothing() -> None:
    return None


def mail(sender: str, due: float = 0.0) -> Mail:
    return Mail(sender, nothing, give_up_at=0.0, due=due)


def senders(mails: list[Mail]) -> str:
    return "".join(mail.sender for mail in mails)


def test_senders_take_turns() -> None:
    """However much one has; and each one's mails keep their order."""
    backlog = Backlog()
    waiting = [mail(sender) for sender in "aaaaaabbc"]
    for one in waiting:
        assert backlog.add(one) is None
    first, second, rest = backlog.take(0.0, 2), backlog.take(0.0, 3), backlog.take(0.0, 9)
    assert [senders(first), senders(second), senders(rest)] == ["ab", "abc", "aaaa"]
    assert [one for one in (*first, *second, *rest) if one.sender == "a"] == waiting[:6]
    assert (len(backlog), backlog.take(0.0, 9), backlog.next_due()) == (0, [], None)


def test_what_is_due_later_keeps_nobody_waiting() -> None:
    """Nor its own sender's newer ones."""
    backlog = Backlog()
    for one in (mail("a", 5.0), mail("a"), mail("b", 3.0)):
        backlog.add(one)
    assert senders(backlog.take(0.0, 9)) == "a"
    assert backlog.next_due() == 3.0
    assert backlog.take(2.9, 9) == []
    assert senders(backlog.take(3.0, 9)) == "b"
    assert senders(backlog.take(float("inf"), 9)) == "a"


def test_one_sender_cannot_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its surplus goes, its newest first; where many fill it, the one with most waiting loses for whoever comes."""
    monkeypatch.setattr("devnest.mail.backlog.MAX_WAITING", 12)
    monkeypatch.setattr("devnest.mail.backlog.MAX_WAITING_OF_ONE", 5)
    backlog = Backlog()
    kept = [mail("a") for _ in range(5)]
    for one in kept:
        assert backlog.add(one) is None
    surplus = mail("a")
    assert backlog.add(surplus) is surplus
    assert [backlog.add(mail(sender)) for sender in "bbbbccc"] == [None] * 7
    assert backlog.add(mail("d")) is kept[4]
    assert backlog.add(mail("e")) in (kept[3], *backlog.take(0.0, 12))


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 10)), max_size=200), st.integers(1, 50))
def test_nothing_is_lost_but_what_it_says(arrivals: list[tuple[str, float]], most: int) -> None:
    """Each mail is taken once or was dropped, and nobody with few waiting loses to somebody with more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devnest.mail.backlog.MAX_WAITING", 30)
        patch.setattr("devnest.mail.backlog.MAX_WAITING_OF_ONE", 10)
        backlog, waiting, known = Backlog(), Counter[str](), set[Mail]()
        for sender, due in arrivals:
            known.add(one := mail(sender, due))
            waiting[sender] += 1
            if (dropped := backlog.add(one)) is not None:
                assert waiting[dropped.sender] == max(waiting.values()) or dropped.sender == sender
                waiting[dropped.sender] -= 1
                known.remove(dropped)
        assert len(backlog) == len(known) <= 30
        assert max(waiting.values(), default=0) <= 10
        now = 0.0
        while len(backlog):
            taken = backlog.take(now, most)
            assert len(taken) <= most
            assert all(one.due <= now for one in taken)
            assert known.issuperset(taken)
            known.difference_update(taken)
            now = max(now, backlog.next_due() or now)
        assert not known


def test_a_sender_has_room_for_a_school_and_leaves_more_to_others() -> None:
    """100 people who register at once behind one address all get their mail, whatever else waits."""
    assert 100 <= MAX_WAITING_OF_ONE <= MAX_WAITING // 4
