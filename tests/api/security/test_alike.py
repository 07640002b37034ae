"""No state of the counters tells an account from a name that nobody has.

Both go through the same steps, and are swapped.

A twin is a name that is guessed at. Each has addresses of its own, so that none makes another wait;
the first of them is where its account, if there is one, has signed in. Whatever is done to one is
done to all, and all answer alike.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import PASSWORD, DevNest, sign_in, sign_up

LOGIN = "/api/v1/auth/login"
ME = "/api/v1/users/me"
NETWORKS = 3  # of each twin
numbers = count(1)


@dataclass
class Said:
    """An answer, and between which moments it was given."""

    status: int
    problem: str
    retry_after: int
    began: float
    ended: float


@dataclass
class Twin:
    """A name, and how to guess at it. `holder`: who can sign in, if anybody can."""

    kind: str
    field: str
    name: str
    clients: list[httpx.Client]
    wrong: str = "not the password"
    device_token: str | None = None
    holder: Callable[[], int] | None = None

    def guess(self, network: int, token: str | None) -> Said:
        body: dict[str, Any] = {self.field: self.name, "password": self.wrong}
        if token is not None:
            body["device_token"] = token
        began = time.monotonic()
        answer = self.clients[network].post(LOGIN, json=body)
        problem = answer.json()
        told = (
            problem["type"],
            problem["title"],
            sorted(answer.headers),
            answer.headers.get("www-authenticate"),
        )
        retry_after = int(answer.headers.get("retry-after", 0))
        return Said(answer.status_code, str(told), retry_after, began, time.monotonic())


def make_twins(devnest: DevNest) -> list[Twin]:
    """One of each kind."""
    twins = []
    for kind in ("nobody", "username", "address", "disabled", "deleted's address"):
        name, number = f"u{uuid4().hex[:20]}", next(numbers)
        clients = [
            devnest.client(f"127.{number // 250}.{number % 250}.{n + 1}") for n in range(NETWORKS)
        ]
        field = "email" if "address" in kind else "username"
        twin = Twin(kind, field, f"{name}@example.org" if field == "email" else name, clients)
        twins.append(twin)
        if kind == "nobody":
            continue
        sign_up(clients[0], name)
        twin.device_token = sign_in(clients[0], name)["device_token"]
        if kind in ("username", "address"):
            twin.holder = holder_of(twin)
        elif kind == "disabled":
            twin.wrong = PASSWORD
            devnest.query("UPDATE accounts SET disabled_at = now() WHERE username = $1", name)
        else:
            twin.wrong = PASSWORD
            assert clients[0].request("DELETE", ME, json={"password": PASSWORD}).status_code == 204
    return twins


def holder_of(twin: Twin) -> Callable[[], int]:
    body = {twin.field: twin.name, "password": PASSWORD}
    return lambda: twin.clients[0].post(LOGIN, json=body).status_code


Step = tuple[str, Any]
GUESS = st.tuples(
    st.just("guess"),
    st.tuples(st.integers(0, NETWORKS - 1), st.sampled_from([None, "", "x" * 56, "another's"])),
)
GUESSES = st.tuples(st.just("guesses"), st.integers(2, 12))
# Whole numbers of all periods: a level between two failures would be rounded, and the twins' differ
# by moments.
PASS = st.tuples(st.just("pass"), st.sampled_from([timedelta(minutes=m) for m in (6, 18, 60, 180)]))
SIGN_IN: st.SearchStrategy[Step] = st.just(("sign in", None))
LONG: list[Step] = [
    ("guesses", 9), ("sign in", None), ("guesses", 10), ("sign in", None), ("pass", timedelta(hours=1)), ("guesses", 3),
]  # fmt: skip


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(GUESS | GUESSES | PASS | SIGN_IN, min_size=5, max_size=15))
@example(LONG)
def test_known_and_unknown_names_answer_alike(limited: DevNest, steps: list[Step]) -> None:
    """Whatever was tried before, from where, with what, and whenever the holder signed in
    meanwhile.
    """
    twins = make_twins(limited)
    for step, what in steps:
        if step == "pass":
            limited.query("UPDATE throttles SET empty_at = empty_at - $1::interval", what)
        elif step == "sign in":
            assert {twin.holder() for twin in twins if twin.holder} == {200}
        elif step == "guess":
            guess(limited, twins, *what)
        else:
            for number in range(what):
                guess(limited, twins, number % NETWORKS, None)
    for twin in twins:
        for client in twin.clients:
            client.close()


def guess(devnest: DevNest, twins: list[Twin], network: int, token: str | None) -> None:
    """One at each twin.

    A wait that begins is looked at, once, and ended: none ends by itself meanwhile.
    """
    tokens = (
        [token] * len(twins) if token != "another's" else [another_s(twin, twins) for twin in twins]
    )
    said = [twin.guess(network, given) for twin, given in zip(twins, tokens, strict=True)]
    assert_alike(twins, said)
    assert said[0].status == 401
    lengthen = (
        "UPDATE throttles SET blocked_until = blocked_until + interval '1 hour' "
        "WHERE blocked_until > '-infinity'"
    )
    if not devnest.query(f"{lengthen} RETURNING key"):
        return
    waits = [twin.guess(network, given) for twin, given in zip(twins, tokens, strict=True)]
    assert_alike(twins, waits)
    assert waits[0].status == 429
    # The waits, which began with the guesses: between these bounds, for time passes and whole
    # seconds are told.
    least = [
        wait.retry_after - 1 + wait.began - guessed.ended
        for guessed, wait in zip(said, waits, strict=True)
    ]
    most = [
        wait.retry_after + wait.ended - guessed.began
        for guessed, wait in zip(said, waits, strict=True)
    ]
    assert max(least) <= min(most)
    devnest.query("UPDATE throttles SET blocked_until = '-infinity'")


def another_s(twin: Twin, twins: list[Twin]) -> str:
    return next(other.device_token for other in twins if other is not twin and other.device_token)


def assert_alike(twins: list[Twin], said: list[Said]) -> None:
    for twin, one in zip(twins, said, strict=True):
        assert (one.status, one.problem) == (said[0].status, said[0].problem), twin.kind
