"""The three profiles of `devnest load` for Locust: see README.md beside this file."""

import base64
import json
import os
import random
import re
import secrets
import sys
import threading
from typing import Any

from locust.env import Environment

from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task

PROFILE = os.environ.get("PROFILE", "experiment")
VUS = int(os.environ.get("VUS", "5000"))
RAMP_S = float(os.environ.get("RAMP_S", "120"))
HOLD_S = float(os.environ.get("HOLD_S", "25"))
FLOOD_S = float(os.environ.get("FLOOD_S", "60"))
CAPACITY = float(
    os.environ.get("CAPACITY", "100")
)  # sign-ins a second; Locust cannot measure it before it starts
MULTIPLE = float(os.environ.get("MULTIPLE", "10"))
STAGES = os.environ.get("STAGES", "10s:50,20s:100,12s:0")
ATTACKERS = 500
STOP_TIMEOUT_S = 30  # for the requests under way when a user goes, as in `devnest load`
API = "/api/v1"
RUN = secrets.token_hex(4)

if PROFILE not in ("experiment", "stress", "flood"):
    raise SystemExit(f"PROFILE is experiment, stress or flood, not {PROFILE}")


def stage(text: str) -> tuple[float, int]:
    found = re.fullmatch(r"\s*([\d.]+)s:(\d+)\s*", text)
    if found is None:
        raise SystemExit(f"not a stage: {text!r} (write SECONDSs:VUS, as in 10s:50,20s:100,12s:0)")
    return float(found[1]), int(found[2])


EXPERIMENT = [stage(each) for each in STAGES.split(",")]


class Visitor(FastHttpUser):
    """The requests of the users of every profile; the responses are checked."""

    abstract = True
    _numbers = iter(range(10**9))

    def on_start(self) -> None:
        self.account: dict[str, str] = {}
        self.token = ""

    def wait_time(self) -> float:
        return self.think_s * random.uniform(0.5, 1.5)

    think_s = 0.2

    def send(self, name: str, method: str, path: str, body: Any, statuses: tuple[int, ...]) -> Any:
        """Return the response's JSON, or `None` without success; other statuses are failures."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with self.client.request(
            method, f"{API}{path}", name=name, json=body, headers=headers, catch_response=True
        ) as answer:
            if answer.status_code not in statuses:
                answer.failure(f"status {answer.status_code}")
                return None
            answer.success()
            return answer.json() if answer.status_code < 300 else None

    def wrong(self, name: str, what: str) -> None:
        failure = {
            "response_time": 0,
            "response_length": 0,
            "exception": AssertionError(what),
            "context": {},
        }
        self.environment.events.request.fire(request_type="CHECK", name=name, **failure)

    def register(self) -> bool:
        username = f"l{RUN}n{next(self._numbers)}"
        account = {
            "username": username,
            "email": f"{username}@load.example",
            "password": f"Lo4d!{secrets.token_hex(8)}",
        }
        made = self.send("register", "POST", "/auth/register", account, (201,))
        if made is None:
            return False
        if made["username"] != username:
            self.wrong("register", "not own account")
        self.account = {**account, "id": made["id"]}
        return True

    def login(self, name: str = "login", statuses: tuple[int, ...] = (200,)) -> bool:
        body = {"email": self.account["email"], "password": self.account["password"]}
        tokens = self.send(name, "POST", "/auth/login", body, statuses)
        if tokens is None:
            return False
        payload = json.loads(base64.urlsafe_b64decode(tokens["access_token"].split(".")[1] + "=="))
        if payload["sub"] != self.account["id"]:
            self.wrong(name, "not own token")
        self.token = tokens["access_token"]
        return True

    def post(self) -> bool:
        title = f"locust {secrets.token_hex(4)}"
        body = {
            "title": title,
            "body": ("nobody waits for long " * 12).strip(),
            "tags": ["python", "testing"],
        }
        made = self.send("post", "POST", "/posts", body, (201,))
        if made is not None and (
            made["title"] != title or made["author"]["id"] != self.account["id"]
        ):
            self.wrong("post", "not own post")
        return made is not None

    def feed(self) -> bool:
        return self.send("feed", "GET", "/posts", None, (200,)) is not None


ACCOUNTS: list[dict[str, str]] = []
_taken = iter(range(10**9))


@events.init.add_listener
def let_requests_end(environment: Environment, **_: Any) -> None:
    """Without a time to stop, Locust cuts off requests that the target has begun to answer."""
    environment.stop_timeout = environment.stop_timeout or STOP_TIMEOUT_S


@events.test_start.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Make the accounts of the run, eight at a time, before the first user starts."""
    import urllib.request

    wanted = {"experiment": 0, "stress": VUS, "flood": 50}[PROFILE]
    names = iter(range(wanted))
    lock = threading.Lock()
    failures: list[str] = []

    def make() -> None:
        while True:
            with lock:
                number = next(names, None)
            if number is None:
                return
            username = f"p{RUN}n{number}"
            account = {
                "username": username,
                "email": f"{username}@load.example",
                "password": "Lo4d!" + RUN,
            }
            request = urllib.request.Request(
                f"{environment.host}{API}/auth/register",
                json.dumps(account).encode(),
                {"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    ACCOUNTS.append({**account, "id": json.load(answer)["id"]})
            except OSError as error:
                failures.append(str(error))
                return

    makers = [threading.Thread(target=make) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    if failures:
        print(f"cannot make the accounts: {failures[0]}", file=sys.stderr)
        os._exit(1)  # Locust goes on after whatever a listener raises


def an_account() -> dict[str, str]:
    return ACCOUNTS[next(_taken) % len(ACCOUNTS)]


class Ramp(LoadTestShape):
    """The number of users over time, as in `devnest load`."""

    stages = {
        "experiment": EXPERIMENT,
        "stress": [(RAMP_S, VUS), (HOLD_S, VUS), (5, 0)],
        "flood": [(0, ATTACKERS + 32), (FLOOD_S, ATTACKERS + 32)],
    }[PROFILE]

    def tick(self) -> tuple[int, float] | None:
        begin, before = 0.0, 0
        for duration, users in self.stages:
            if self.get_run_time() < begin + duration:
                share = (self.get_run_time() - begin) / duration
                return round(before + (users - before) * share), 100
            begin, before = begin + duration, users
        return None


if PROFILE == "experiment":

    class Newcomer(Visitor):
        @task
        def arrive(self) -> None:
            self.token = ""
            for step in (self.register, self.login):
                if not step():
                    return
                self.wait()
            self.post()  # Locust itself waits after a task


if PROFILE == "stress":

    class Member(Visitor):
        think_s = 2.4

        def on_start(self) -> None:
            super().on_start()
            self.account = an_account()

        @task
        def visit(self) -> None:
            if not self.token:
                self.login()
            elif random.random() < 0.7:
                self.feed()
            else:
                self.post()


if PROFILE == "flood":

    class Guest(Visitor):
        abstract = True

        def on_start(self) -> None:
            super().on_start()
            self.account = an_account()

    class Attacker(Guest):
        fixed_count = ATTACKERS
        wait_time = constant_throughput(CAPACITY * MULTIPLE / ATTACKERS)

        @task
        def attack(self) -> None:
            self.login("attack", (200, 429, 503))

    class Honest(Guest):
        fixed_count = 2
        think_s = 2.0

        @task
        def sign_in(self) -> None:
            self.login()

    class Reader(Guest):
        fixed_count = 20

        @task
        def read(self) -> None:
            self.feed()

    class Poster(Guest):
        fixed_count = 10

        @task
        def write(self) -> None:
            if self.token:
                self.post()
            else:
                self.login()
