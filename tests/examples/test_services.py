"""The examples work: each is served by uvicorn and used over HTTP."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support import NO_TLS, PATIENCE_S

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextlib.contextmanager
def running(
    *command: str, ready: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program, give the line that says it is ready, and end it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": ".", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            seen = []
            for line in process.stdout:
                seen.append(line)
                if ready in line:
                    break
            else:
                pytest.fail("".join(seen))
            yield process, line
        finally:
            process.terminate()
            process.stdout.read()


@contextlib.contextmanager
def serving(
    service: str, **environment: str
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Serve an example on a port of its own."""
    uvicorn = running(
        "uvicorn", f"{service}:app", "--port", "0", ready="Uvicorn running", **environment
    )
    with uvicorn as (process, line):
        url = re.findall(r"http://[\d.:]+", line)[0]
        with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=NO_TLS) as client:
            yield client, process


def use(client: httpx.Client) -> None:
    """Sign up, sign in, and fail to with a wrong password and an unknown name."""
    ada = {"name": "ada", "password": "correct horse"}
    assert ask(client, "/accounts", ada).status_code == 201
    answer = ask(client, "/sessions", ada)
    assert (answer.status_code, answer.json()) == (200, {"name": "ada"})
    assert ask(client, "/sessions", {**ada, "password": "wrong"}).status_code == 401
    assert ask(client, "/sessions", {**ada, "name": "bob"}).status_code == 401


def ask(client: httpx.Client, path: str, body: dict[str, str]) -> httpx.Response:
    """The answer.

    Who is told that the service is busy comes again: on a slow machine a hash may take too long.
    """
    ends = time.monotonic() + PATIENCE_S
    while (answer := client.post(path, json=body)).status_code == 503 and time.monotonic() < ends:
        time.sleep(float(answer.headers["Retry-After"]))
    return answer


@pytest.mark.parametrize("service", ["fastapi_service", "django_service"])
def test_service_with_its_own_pool(service: str) -> None:
    """It signs people up and in, and takes its workers along when it ends."""
    with serving(service) as (client, process):
        use(client)
        workers = psutil.Process(process.pid).children()
        assert workers
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_service_with_the_shared_pool() -> None:
    """Litestar's example uses a pool that runs beside it."""
    with tempfile.TemporaryDirectory(prefix="pool-") as directory:
        path = f"{directory}/pool.sock"
        pool = running("devnest.pool", "serve", "--socket", path, ready="ready on")
        with pool, serving("litestar_service", POOL_SOCKET=path) as (client, _):
            use(client)
        assert not Path(path).exists()


@pytest.mark.parametrize("service", ["fastapi_service", "litestar_service", "django_service"])
def test_example_is_short_and_uses_no_more_of_devnest(service: str) -> None:
    """At most 60 lines; they use the pool, and bcrypt through `passwords.py`."""
    text = (EXAMPLES / f"{service}.py").read_text()
    assert 30 <= len(text.splitlines()) <= 60
    assert set(re.findall(r"devnest\.\w+", text)) == {"devnest.pool"}
    used = set(
        re.findall(r"from (devnest\S*) import (\w+)", (EXAMPLES / "passwords.py").read_text())
    )
    assert used == {("devnest", "bcrypt"), ("devnest.pool", "batched")}
