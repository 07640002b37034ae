"""hashpw_many and checkpw_many: checked whole, in order, bounded, without the GIL."""

import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from devnest import bcrypt
from devnest.bcrypt import _kernel
from devnest.bcrypt.backend import MAX_CALL_PASSWORDS

SALT = b"$2b$04$abcdefghijklmnopqrstuu"
TOO_MUCH = b"$2b$31$abcdefghijklmnopqrstuu"


def test_empty_batch() -> None:
    """Nothing in, nothing out."""
    assert bcrypt.hashpw_many([], []) == []
    assert bcrypt.checkpw_many([], []) == []


def test_right_and_wrong_passwords_side_by_side() -> None:
    """Each answer belongs to its own entry."""
    hashes = bcrypt.hashpw_many([b"a", b"b", b"c"], [bcrypt.gensalt(cost) for cost in (6, 4, 5)])
    assert bcrypt.checkpw_many([b"a", b"x", b"c"], hashes) == [True, False, True]
    assert bcrypt.checkpw_many([b"a"] * 2, [hashes[0][:-1], hashes[0] + b"."]) == [False, False]


def test_numbers_must_match() -> None:
    """A password without a salt is the caller's mistake."""
    with pytest.raises(ValueError, match="2 passwords for 1"):
        bcrypt.hashpw_many([b"a", b"b"], [SALT])


def test_error_names_its_entry() -> None:
    """The exception is pyca/bcrypt's; a note says which entry it is."""
    with pytest.raises(ValueError, match="Invalid salt") as caught:
        bcrypt.hashpw_many([b"a"] * 3, [SALT, b"bad", SALT])
    assert (caught.value.args, caught.value.__notes__) == (("Invalid salt",), ["in entry 1 of 3"])
    with pytest.raises(TypeError, match="'hashed_password': 'str'"):
        bcrypt.checkpw_many([b"a"], ["text"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="'password': 'int'"):
        bcrypt.checkpw_many(b"a", [SALT])  # type: ignore[arg-type]


def test_cost_is_bounded_before_any_work() -> None:
    """Cost 31 takes days: that this test ends shows that nothing was started, not even its
    neighbours.
    """
    with pytest.raises(bcrypt.CostTooHigh, match="cost 31 is above the bound of 14") as caught:
        bcrypt.checkpw_many([b"a"] * 2, [SALT, TOO_MUCH], max_cost=14)
    assert (caught.value.cost, caught.value.max_cost) == (31, 14)
    with pytest.raises(bcrypt.CostTooHigh):
        bcrypt.hashpw_many([b"a"], [TOO_MUCH], max_cost=30)
    with pytest.raises(bcrypt.CostTooHigh):
        bcrypt.checkpw(b"a", TOO_MUCH, max_cost=12)
    with pytest.raises(bcrypt.CostTooHigh):
        bcrypt.hashpw(b"a", TOO_MUCH, max_cost=12)
    assert bcrypt.hashpw(b"a", SALT, max_cost=4) == bcrypt.hashpw(b"a", SALT)


def test_all_entries_are_checked_before_any_work() -> None:
    """The last is bad, far beyond what one call of the kernel holds: none is computed, it would
    take an hour.
    """
    many = MAX_CALL_PASSWORDS + 100
    with pytest.raises(bcrypt.CostTooHigh) as caught:
        bcrypt.hashpw_many(
            [b"a"] * many, [SALT.replace(b"$04$", b"$12$")] * (many - 1) + [TOO_MUCH], max_cost=12
        )
    assert caught.value.__notes__ == [f"in entry {many - 1} of {many}"]


def test_order_is_kept_across_calls_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch larger than one call holds is split without a seam."""
    assert MAX_CALL_PASSWORDS > 7
    monkeypatch.setattr("devnest.bcrypt.backend.MAX_CALL_PASSWORDS", 7)
    passwords = [b"%d" % index for index in range(40)]
    salts = [bcrypt.gensalt(4 + index % 3) for index in range(40)]
    assert bcrypt.hashpw_many(passwords, salts) == list(map(bcrypt.hashpw, passwords, salts))


SETTING = b"\x04" + b"s" * 16


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([b"a"], SETTING, 1), TypeError),
        ((("a",), SETTING, 1), TypeError),
        (((None,), SETTING, 1), TypeError),
        (((b"a",), bytearray(SETTING), 1), TypeError),
        (((b"a",), SETTING[:-1], 1), ValueError),
        (((b"a", b"b"), SETTING, 1), ValueError),
        (((), SETTING, 1), ValueError),
        (((b"a" * 73,), SETTING, 1), ValueError),
        (((b"a",), b"\x03" + SETTING[1:], 1), ValueError),
        (((b"a",), b"\x20" + SETTING[1:], 1), ValueError),
        (((b"a",), b"\xff" + SETTING[1:], 1), ValueError),
        (((b"a",), SETTING, 0), ValueError),
        (((b"a",), SETTING, 9), ValueError),
        (((b"a",), SETTING, -1), ValueError),
        (((b"a",), SETTING, 1 << 40), OverflowError),
        (((b"a",), SETTING), TypeError),
        (((b"a",), SETTING, 1, 1), TypeError),
    ],
)
def test_kernel_refuses(arguments: tuple[object, ...], error: type[Exception]) -> None:
    """The extension trusts nobody, and gives everything back however it ends."""
    with pytest.raises(error):
        _kernel.digests(*arguments)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            with pytest.raises(error):
                _kernel.digests(*arguments)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[0] - before < 100_000  # one scratch block is 26 kB
    finally:
        tracemalloc.stop()


def test_kernel_keeps_no_memory() -> None:
    """After a batch nothing but its result is left, and no reference to its inputs."""
    password, settings = b"some password", SETTING * 12
    references = sys.getrefcount(password)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            assert len(_kernel.digests((password,) * 12, settings, 6)) == 12 * 23
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert sys.getrefcount(password) == references


@pytest.fixture
def no_preemption() -> Iterator[None]:
    """From here on a thread loses the GIL only where it gives it away."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("no_preemption")
def test_the_interpreter_ticks_while_eight_threads_hash() -> None:
    """During batches of every thread the main thread gets on.

    Were the GIL held, it could not at all.
    """
    ticks = 0
    progress = [0] * 8

    def hash_batches(thread: int) -> None:
        while progress[thread] == 0:
            before = ticks
            bcrypt.hashpw_many([b"a"] * 24, [SALT] * 24)
            progress[thread] += ticks - before

    threads = [threading.Thread(target=hash_batches, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ticks += 1
        time.sleep(0)
    for thread in threads:
        thread.join()
    assert all(progress)
