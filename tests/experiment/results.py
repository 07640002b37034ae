"""Sessions with made-up figures."""

from devnest.experiment import Conditions, Run, Session
from devnest.load import Result
from devnest.load.messages import Second
from devnest.load.result import Machine
from devnest.load.tally import Tally

TITLES = {"inline": "Before | <b>", "pool": "After", "node-piscina": "Node"}


def loaded(
    answer_s: float, *, seconds: int = 3, failed: bool = False, busy: bool = False
) -> Result:
    """A finished load run: in each second 20 sign-ins of `answer_s` and 10 posts of 2 ms."""
    result = Result(url="http://127.0.0.1:8000", profile="experiment", generators=1, seed=1)
    for ordinal in range(seconds):
        tally = Tally()
        for _ in range(20):
            tally.request("login", 200, True, answer_s)
        for _ in range(10):
            tally.request("post", 500 if failed else 201, not failed, 0.002)
        result.absorb(
            0, Second(ordinal, 10 * ordinal, 0.95 if busy else 0.1, 1.0, 0.0, tally.take())
        )
    result.finish()
    return result


def session(*, runs: int = 1) -> Session:
    """A session of three designs without a run."""
    conditions = Conditions("experiment", 10, runs, list(TITLES))
    return Session(conditions, dict(TITLES), Machine("Linux 6", "A processor", 2, "3.11"))


def measured(*, runs: int = 1) -> Session:
    """A complete session: inline answers in 400 ms, the pool in 40 ms, Node in 200 ms."""
    whole = session(runs=runs)
    for number, design in whole.pending:
        answer_s = {"inline": 0.4, "pool": 0.04, "node-piscina": 0.2}[design]
        whole.add(Run.of(design, number, loaded(answer_s)))
    return whole
