"""The examples work: each is served by uvicorn and used over HTTP."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from devnest.passwords import hash_password
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
        # Reads on when the program is ready, or it could not write on.
        reading = threading.Thread(target=process.stdout.read)
        try:
            seen = []
            for line in process.stdout:
                seen.append(line)
                if ready in line:
                    break
            else:
                pytest.fail("".join(seen))
            reading.start()
            yield process, line
        finally:
            process.terminate()
            if reading.ident:
                reading.join()


@contextlib.contextmanager
def serving(service: str, **environment: str) -> Iterator[httpx.Client]:
    """Serve an example on a port of its own."""
    uvicorn = running(
        "uvicorn", f"{service}:app", "--port", "0", ready="Uvicorn running", **environment
    )
    with uvicorn as (_, line):
        url = re.findall(r"http://[\d.:]+", line)[0]
        with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=NO_TLS) as client:
            yield client


SERVICES = ["fastapi_service", "litestar_service", "django_service"]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database with Django's tables."""
    path = str(tmp_path / "accounts")
    command = [sys.executable, "django_service.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=EXAMPLES, env={**os.environ, "DATABASE": path}, check=True)
    return path


@pytest.fixture(params=SERVICES)
def client(request: pytest.FixtureRequest, database: str) -> Iterator[httpx.Client]:
    """A client of an example that is served by uvicorn."""
    with serving(request.param, DATABASE=database) as client:
        yield client


def ask(client: httpx.Client, path: str, name: str, password: str) -> httpx.Response:
    """The answer.

    Who is told that the service is busy comes again: on a slow machine a hash may take too long.
    """
    ends = time.monotonic() + PATIENCE_S
    body = {"name": name, "password": password}
    while (answer := client.post(path, json=body)).status_code == 503 and time.monotonic() < ends:
        time.sleep(float(answer.headers["Retry-After"]))
    return answer


def test_sign_up_and_sign_in(client: httpx.Client) -> None:
    """Passwords of any length and script, a taken name, a wrong password and an unknown name."""
    long = "correct horse " * 20
    for name, password in [
        ("ada", "correct horse"),
        ("lin", long),
        ("mei", "пароль 密码 🔑 caf\u00e9"),
    ]:
        assert ask(client, "/accounts", name, password).status_code == 201
        answer = ask(client, "/sessions", name, password)
        assert (answer.status_code, answer.json()) == (200, {"name": name})
    assert ask(client, "/accounts", "ada", "another password").status_code == 409
    assert ask(client, "/sessions", "ada", "another password").status_code == 401
    assert ask(client, "/sessions", "ada", "correct horse").status_code == 200
    assert ask(client, "/sessions", "lin", long[:-1]).status_code == 401


def test_an_unknown_name_is_answered_as_a_wrong_password(client: httpx.Client) -> None:
    """The same answer after the same work, so names cannot be listed."""
    assert ask(client, "/accounts", "ada", "correct horse").status_code == 201
    wrong = ask(client, "/sessions", "ada", "another password")
    unknown = ask(client, "/sessions", "bob", "another password")
    assert (unknown.status_code, unknown.content) == (wrong.status_code, wrong.content)

    # A hash takes about a hundred times as long as all else, so even a part of it would show. Other
    # work on this machine makes the answer later, never earlier.
    hash_s = min(_hash_s() for _ in range(3))
    for _ in range(3):
        unknown = ask(client, "/sessions", "bob", "another password")
        assert unknown.elapsed.total_seconds() > hash_s / 4


def _hash_s() -> float:
    started = time.perf_counter()
    hash_password("another password", 12)
    return time.perf_counter() - started


def test_two_who_take_a_name_at_once(client: httpx.Client) -> None:
    """One of them gets it, and only that password signs in."""
    with ThreadPoolExecutor() as threads:
        passwords = [f"password {n}" for n in range(4)]
        answers = list(
            threads.map(lambda password: ask(client, "/accounts", "ada", password), passwords)
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        won = [answer.status_code == 201 for answer in answers]
        signed_in = threads.map(
            lambda password: ask(client, "/sessions", "ada", password), passwords
        )
        assert [answer.status_code == 200 for answer in signed_in] == won


def test_django_under_gunicorn(database: str) -> None:
    """WSGI, with several processes."""
    gunicorn = running(
        "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "django_service:wsgi",
        ready="Listening at", DATABASE=database,
    )  # fmt: skip
    with gunicorn as (_, line):  # several processes
        url = re.findall(r"http://[\d.:]+", line)[0]
        with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=NO_TLS) as client:
            test_sign_up_and_sign_in(client)


@pytest.mark.parametrize("service", SERVICES)
def test_example_is_short_and_uses_what_the_pages_explain(service: str) -> None:
    """At most 65 lines."""
    text = (EXAMPLES / f"{service}.py").read_text()
    assert 30 <= len(text.splitlines()) <= 65
    used = set(re.findall(r"devnest\.\w+", text))
    assert used <= {"devnest.contrib", "devnest.passwords", "devnest.pool"}
