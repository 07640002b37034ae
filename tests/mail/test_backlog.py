"""Who waits, who goes first, and who has to go."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.mail.backlog import MAX_WAITING, MAX_WAITING_PER_NETWORK, Backlog, Mail, Sender


async def nothing() -> None:
    return None


def mail(network: str, due: float = 0.0, account: str = "") -> Mail:
    return Mail(Sender(network, account), nothing, give_up_at=0.0, due=due)


def senders(mails: list[Mail]) -> str:
    return "".join(mail.sender.network + mail.sender.account for mail in mails)


def test_senders_take_turns() -> None:
    """However much one has; and each one's mails keep their order."""
    backlog = Backlog()
    waiting = [mail(network) for network in "aaaaaabbc"]
    for one in waiting:
        assert backlog.add(one) is None
    first, second, rest = backlog.take(0.0, 2), backlog.take(0.0, 3), backlog.take(0.0, 9)
    assert [senders(first), senders(second), senders(rest)] == ["ab", "cab", "aaaa"]
    assert [one for one in (*first, *second, *rest) if one.sender.network == "a"] == waiting[:6]
    assert (len(backlog), backlog.take(0.0, 9), backlog.next_due()) == (0, [], None)


def test_nobody_waits_for_a_second_mail_of_another() -> None:
    """Not within what is taken together either: a mail server may be slow at each of somebody's."""
    backlog = Backlog()
    for network in "aaaabc":
        backlog.add(mail(network))
    assert senders(backlog.take(0.0, 9)) == "abcaaa"


def test_in_a_network_its_accounts_take_turns() -> None:
    """A network with many accounts has no more turns than another."""
    backlog = Backlog()
    for network, account in ("a1", "a1", "a1", "a2", "a3", "b1", "b1"):
        backlog.add(mail(network, account=account))
    assert [senders(backlog.take(0.0, 2)) for _ in range(4)] == ["a1b1", "a2b1", "a3a1", "a1"]


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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Backlog:
    """One with room for twelve, and for five of a network."""
    monkeypatch.setattr("devnest.mail.backlog.MAX_WAITING", 12)
    monkeypatch.setattr("devnest.mail.backlog.MAX_WAITING_PER_NETWORK", 5)
    return Backlog()


def test_one_sender_cannot_fill_it(small: Backlog) -> None:
    """Its surplus goes, its newest first.

    Where many fill it, the one with most waiting loses for whoever comes.
    """
    kept = [mail("a") for _ in range(5)]
    for one in kept:
        assert small.add(one) is None
    surplus = mail("a")
    assert small.add(surplus) is surplus
    assert [small.add(mail(network)) for network in "bbbbccc"] == [None] * 7
    assert small.add(mail("d")) is kept[4]
    assert small.add(again := mail("a")) is again
    another = small.add(mail("d"))  # now two networks have as much
    assert another is not None
    assert another.sender.network in "ab"


def test_many_accounts_are_one_sender_s(small: Backlog) -> None:
    """A network has no more room for them.

    In it, the account with most waiting loses the newest.
    """
    busy = [mail("a", account="1") for _ in range(3)]
    for one in (*busy, mail("a", account="2"), mail("a", account="3")):
        assert small.add(one) is None
    assert small.add(mail("a", account="4")) is busy[2]
    assert small.add(mail("a", account="5")) is busy[1]
    assert small.add(another := mail("a", account="6")) is another


def test_who_asks_for_more_loses_to_who_has_as_much(small: Backlog) -> None:
    """Where all have one, newcomers wait for room."""
    for number in range(12):
        assert small.add(mail(str(number))) is None
    assert small.add(newcomer := mail("newcomer")) is newcomer


def test_one_that_comes_back_keeps_its_place(small: Backlog) -> None:
    """It was tried, and what came after it goes before it does."""
    first, *others = [mail("a") for _ in range(5)]
    for one in (first, *others):
        small.add(one)
    assert small.take(0.0, 1) == [first]
    small.add(last := mail("a"))
    assert small.add(first) is last
    assert small.take(0.0, 1) == [first]


ARRIVALS = st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 10), st.sampled_from("123"))


@given(st.lists(ARRIVALS, max_size=200), st.integers(1, 50))
def test_nothing_is_lost_but_what_it_says(
    arrivals: list[tuple[str, float, str]], most: int
) -> None:
    """Each mail is taken once or was dropped, and nobody with few waiting loses to somebody with
    more.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devnest.mail.backlog.MAX_WAITING", 30)
        patch.setattr("devnest.mail.backlog.MAX_WAITING_PER_NETWORK", 10)
        backlog, waiting, known = Backlog(), Counter[str](), set[Mail]()
        for network, due, account in arrivals:
            known.add(one := mail(network, due, account))
            waiting[network] += 1
            if (dropped := backlog.add(one)) is not None:
                assert (
                    waiting[dropped.sender.network] == max(waiting.values())
                    or dropped.sender.network == network
                )
                waiting[dropped.sender.network] -= 1
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
    """100 people who register at once behind one address all get their mail, whatever else
    waits.
    """
    assert 100 <= MAX_WAITING_PER_NETWORK <= MAX_WAITING // 4
