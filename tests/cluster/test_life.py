"""One life of a DevNest from its ready line to a clean stop, with each way to hash, seen from
several sides.
"""

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
import pytest

from tests.metrics import Page, scrape
from tests.support import PASSWORD, DevNest, data_directory, sign_up

VARIABLES = {
    "DEVNEST_HASHCOST": "12",
    "DEVNEST_MAIL_FROM": "nest@example.org",
    "DEVNEST_LANES": "2",
}
ENDS = {"inline": signal.SIGTERM, "thread": signal.SIGTERM, "pool": signal.SIGINT}


@dataclass
class Life:
    """What is left of it."""

    hashing: str
    readiness: dict[str, str]
    metrics: Page
    secrets: list[str]
    last_request_id: str
    family: list[psutil.Process]
    status: int
    log: str


@pytest.fixture(scope="module", params=ENDS)
def life(request: pytest.FixtureRequest) -> Iterator[Life]:
    """Good and wrong requests, an idle connection, a signal."""
    hashing = request.param
    with data_directory() as data_dir:
        options = ("--hashing", hashing, "--log-level", "debug")
        devnest = DevNest(data_dir, *options, environment=VARIABLES).start()
        with devnest.client() as client:
            token = sign_up(client, "ada")
            answer = client.post(
                "/api/v1/auth/login", json={"username": "ada", "password": PASSWORD}
            )
            client.post("/api/v1/auth/register", json={"password": PASSWORD, "extra": PASSWORD})
            client.post("/api/v1/auth/login", content=PASSWORD.encode())
            readiness = client.get("/readyz").json()
            metrics = scrape(devnest.url)
            last_request_id = client.get("/api/v1/users/me").headers["x-request-id"]
        family = devnest.descendants()
        assert any("postgres" in process.name() for process in family)
        address = urlsplit(devnest.url)
        with socket.create_connection((address.hostname, address.port)) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert idle.recv(4096)
            devnest.process.send_signal(ENDS[hashing])
            status = devnest.wait()
        secrets = [PASSWORD, token, answer.json()["refresh_token"], "$2b$"]
        yield Life(
            hashing, readiness, metrics, secrets, last_request_id, family, status, devnest.log()
        )


def test_it_stops_cleanly_and_leaves_nothing(life: Life) -> None:
    """Status 0, no process left, with an idle connection open."""
    assert life.status == 0
    assert psutil.wait_procs(life.family, timeout=60)[1] == []


def test_the_log_is_json_and_holds_no_secret(life: Life) -> None:
    """Every line has its request's id.

    No password, token or hash is in any, not even for wrong requests.
    """
    lines = [json.loads(line) for line in life.log.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 9
    assert all(line["request_id"] for line in requests)
    (last,) = [line for line in requests if line["request_id"] == life.last_request_id]
    assert (last["method"], last["path"], last["status"]) == ("GET", "/api/v1/users/me", 200)
    for secret in life.secrets:
        assert secret not in life.log


def test_a_pool_is_told_of_where_there_is_one(life: Life) -> None:
    """And `/readyz` waits for none where there is not."""
    has_pool = life.hashing == "pool"
    assert life.readiness == {"status": "ok", "database": "ok", "pool": "ok"}
    assert any(name.startswith("pool_") for name, _ in life.metrics) == has_pool


def test_a_variable_of_no_option_is_told(life: Life) -> None:
    """A misspelt one would else be a setting that is not set."""
    lines = [json.loads(line) for line in life.log.splitlines()]
    assert [line["variable"] for line in lines if "variable" in line] == ["DEVNEST_HASHCOST"]


def test_an_option_without_effect_is_told(life: Life) -> None:
    """Every life here is given a number of workers (tests/support.py).

    On the event loop there are none.
    """
    lines = [json.loads(line) for line in life.log.splitlines()]
    idle = [line["option"] for line in lines if line["event"] == "option without effect"]
    assert idle == (["--hash-workers"] if life.hashing == "inline" else [])
