"""`devnest serve` as a process: started, stopped, refused, killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.store import DataDirectory
from devnest.store.postgres.log import MAX_LOG_BYTES
from tests.metrics import total, until
from tests.support import PASSWORD, DevNest, eventually, http, running, sign_up

UNFINISHED = (
    b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\n"
    b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{"
)


def serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a `devnest serve` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "devnest", "serve", "--processes=1", "--hash-workers=1", *options],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def one_line(run: subprocess.CompletedProcess[str], status: int) -> str:
    assert run.returncode == status, run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    return lines[0]


def test_every_acknowledged_post_survives_the_death_of_everything(
    data_dir: Path, username: str
) -> None:
    """SIGKILL to DevNest and PostgreSQL in the middle of a stream of posts, twice."""
    devnest = DevNest(data_dir, fresh=True).start()
    acknowledged: list[str] = []
    for round_number in range(2):
        with devnest.client() as client:
            if round_number == 0:
                sign_up(client, username)
            else:
                answer = client.post(
                    "/api/v1/auth/login", json={"username": username, "password": PASSWORD}
                )
                client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
            enough = threading.Event()

            def stream(client: httpx.Client = client, enough: threading.Event = enough) -> None:
                for number in range(1_000_000):
                    try:
                        answer = client.post(
                            "/api/v1/posts", json={"title": f"{number}", "body": "b"}
                        )
                    except httpx.HTTPError:
                        return
                    if answer.status_code != 201:
                        return
                    acknowledged.append(answer.json()["id"])
                    if number == 50:
                        enough.set()

            writer = threading.Thread(target=stream)
            writer.start()
            assert enough.wait(60)
            devnest.kill_everything()
            writer.join(60)
            assert not writer.is_alive()
        devnest = DevNest(data_dir).start()
    with devnest.client() as client:
        found = [client.get(f"/api/v1/posts/{post_id}").status_code for post_id in acknowledged]
        assert len(found) > 100
        assert set(found) == {200}
    assert devnest.stop() == 0


def test_a_request_that_hangs_is_answered_after_the_drain_time(data_dir: Path) -> None:
    """A body that never ends keeps nobody from stopping.

    The drain time is an option, and the answer like any other.
    """
    devnest = DevNest(data_dir, "--drain-timeout", "0.3").start()
    address = urlsplit(devnest.url)
    with socket.create_connection((address.hostname, address.port)) as hanging:
        hanging.sendall(UNFINISHED)
        http.get(f"{devnest.url}/healthz")
        assert devnest.stop() == 0
        answer = b"".join(iter(lambda: hanging.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 503 ")
    assert {"retry-after: 1", "content-type: application/problem+json"} <= set(
        answer.lower().splitlines()
    )
    assert re.search('"type":"urn:devnest:ending".*"request_id":"[0-9a-f]{32}"', answer)
    assert "Traceback" not in devnest.log()


def test_a_rolling_restart_waits_for_hashes_longer_than_a_stop(data_dir: Path) -> None:
    """Seven that are hashed by one worker in two batches are answered by a server that was told
    to go meanwhile.
    """
    with (
        running(data_dir, "--drain-timeout=0.1", "--hash-workers=1", "--hash-cost=13") as devnest,
        ThreadPoolExecutor(7) as threads,
    ):

        def register(number: int) -> int:
            body = {
                "username": f"waits-{number}",
                "email": f"waits-{number}@example.org",
                "password": PASSWORD,
            }
            return http.post(f"{devnest.url}/api/v1/auth/register", json=body).status_code

        answers = [threads.submit(register, number) for number in range(7)]
        until(devnest.url, lambda page: total(page, "http_server_active_requests") >= 7)
        devnest.process.send_signal(signal.SIGHUP)
        assert [answer.result() for answer in answers] == [201] * 7
    assert "Traceback" not in devnest.log()


def test_a_second_signal_stops_at_once(data_dir: Path) -> None:
    """Without waiting for the drain time."""
    devnest = DevNest(data_dir, "--drain-timeout", "3600").start()
    address = urlsplit(devnest.url)
    with socket.create_connection((address.hostname, address.port)) as hanging:
        hanging.sendall(UNFINISHED)
        http.get(f"{devnest.url}/healthz")
        devnest.process.terminate()
        eventually(lambda: refuses(devnest))
        devnest.process.terminate()
        assert devnest.wait() == 0, devnest.log()


def refuses(devnest: DevNest) -> bool:
    """Whether new connections are."""
    try:
        http.get(f"{devnest.url}/healthz")
    except httpx.HTTPError:
        return True
    return False


def test_a_taken_port_is_one_line(data_dir: Path) -> None:
    """Status 3, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(serve("--port", str(port), "--data-dir", str(data_dir)), 3)
    assert f"cannot listen on 127.0.0.1 port {port}" in line
    assert not data_dir.exists()


def test_an_address_of_nobody_is_one_line(data_dir: Path) -> None:
    """Status 3."""
    assert "cannot listen" in one_line(
        serve("--host", "no.such.host.invalid", "--data-dir", str(data_dir)), 3
    )


def test_a_data_directory_in_use_is_one_line(devnest: DevNest) -> None:
    """Status 4, with the process that uses it; that one goes on."""
    line = one_line(serve("--port", "0", "--data-dir", str(devnest.data_dir)), 4)
    assert f"process {devnest.process.pid}" in line
    assert http.get(f"{devnest.url}/readyz").status_code == 200


def test_an_unreadable_data_directory_is_one_line(tmp_path: Path) -> None:
    """Status 4."""
    (tmp_path / "data").write_text("a file")
    assert "cannot be used" in one_line(
        serve("--port", "0", "--data-dir", str(tmp_path / "data")), 4
    )


def test_a_database_that_does_not_answer_is_one_line(data_dir: Path) -> None:
    """Status 5."""
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    assert "does not answer" in one_line(
        serve("--port", "0", "--database-url", url, "--data-dir", str(data_dir)), 5
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "99999"],
        ["--port", "web"],
        ["--hash-cost", "3"],
        ["--hash-cost", "31"],
        ["--hashing", "magic"],
        ["--hash-workers", "0"],
        ["--database-url", "sqlite:///x"],
        ["--drain-timeout", "-1"],
        ["--processes", "0"],
        ["--trusted-proxies", "10.0.0.0/99"],
        ["--trusted-proxies", "10.0.0.0/8,127.0.0.1/8"],
        ["--trusted-proxies", "127.0.0.1/255.0.0.0"],
        ["--data-dir", ""],
        ["--breached-passwords", __file__],
        ["--mail-from", "bad"],
        ["--mail-from", "a@b\nBcc: c@d"],
        ["--no-such-option"],
    ],
)
def test_a_wrong_option_is_status_2(options: list[str]) -> None:
    """And its name is in the message."""
    run = CliRunner().invoke(app, ["serve", *options])
    assert run.exit_code == 2
    assert options[0] in run.output


def test_an_option_may_come_from_the_environment() -> None:
    """`DEVNEST_` and the option's name."""
    run = CliRunner().invoke(app, ["serve"], env={"DEVNEST_HASH_COST": "99"})
    assert run.exit_code == 2
    assert "--hash-cost" in run.output


def test_a_service_link_is_no_port(data_dir: Path) -> None:
    """Kubernetes sets these for a service called `devnest`.

    The default port is taken, with one line of warning.
    """
    links = {
        "DEVNEST_PORT": "tcp://10.96.0.12:8000",
        "DEVNEST_PORT_8000_TCP": "tcp://10.96.0.12:8000",
        "DEVNEST_PORT_8000_TCP_PROTO": "tcp",
        "DEVNEST_PORT_8000_TCP_PORT": "8000",
        "DEVNEST_PORT_8000_TCP_ADDR": "10.96.0.12",
        "DEVNEST_SERVICE_HOST": "10.96.0.12",
        "DEVNEST_SERVICE_PORT": "8000",
        "DEVNEST_SERVICE_PORT_HTTP": "8000",
        "DEVNEST_DB_PORT": "tcp://10.96.0.13:5432",
        "DEVNEST_DB_SERVICE_HOST": "10.96.0.13",
        "DEVNEST_PROT": "8001",
    }
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    run = serve("--database-url", url, "--data-dir", str(data_dir), **links)
    assert (
        run.returncode == 5 or "cannot listen on 127.0.0.1 port 8000" in run.stderr
    )  # somebody may have that port
    lines = [json.loads(line) for line in run.stderr.splitlines() if '"variable"' in line]
    assert [line["variable"] for line in lines] == ["DEVNEST_PORT", "DEVNEST_PROT"]
    assert "a service link is no port" in lines[0]["event"]


@pytest.mark.parametrize(
    "value", ["tcp://10.96.0.12:8000", "8000.0", "+80", "\u0668\u0660", "-1", "65536", ""]
)
def test_a_port_is_a_number(value: str) -> None:
    """On the command line a link is a mistake."""
    run = CliRunner().invoke(app, ["serve", f"--port={value}"], env={"DEVNEST_PORT": "8000"})
    assert run.exit_code == 2
    assert "--port" in run.output


def test_an_external_database_is_used_as_it_is(data_dir: Path, username: str) -> None:
    """Behind: status 6 and what to do.

    Migrated: served, without an embedded PostgreSQL of its own.
    """
    from devnest.store import EmbeddedPostgres

    directory = DataDirectory(data_dir)
    directory.open()
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    try:
        url = postgres.url.replace("/devnest?", "/postgres?")
        own = data_dir / "own"
        assert "devnest migrate" in one_line(
            serve("--port", "0", "--database-url", url, "--data-dir", str(own)), 6
        )
        for expected in ("was brought up to date", "is up to date"):
            run = subprocess.run(
                [sys.executable, "-m", "devnest", "migrate", "--database-url", url],
                capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip
            assert expected in run.stdout
        with running(own, environment={"DEVNEST_DATABASE_URL": url}) as devnest:
            with devnest.client() as client:
                sign_up(client, username)
            assert not (own / "postgres").exists()
            assert not any("postgres" in process.name() for process in devnest.descendants())
            postgres.stop()
            with devnest.client() as client:
                for path in ("/readyz", "/api/v1/posts"):
                    answer = client.get(path)
                    assert answer.status_code == 503
                    assert int(answer.headers["retry-after"]) > 0
                assert client.get("/healthz").status_code == 200
    finally:
        postgres.stop()
        directory.close()


def test_a_given_signing_key_is_used(data_dir: Path, tmp_path: Path, username: str) -> None:
    """Tokens of one DevNest are good at another with the same key; a short key is refused."""
    key = tmp_path / "key"
    key.write_text("k" * 40)
    key.chmod(0o644)
    with running(data_dir, "--signing-key-file", str(key)) as devnest, devnest.client() as client:
        token = sign_up(client, username)
        assert not (data_dir / "signing-keys.json").exists()
    assert "other users can read the signing keys" in devnest.log()
    key.chmod(0o600)
    with running(data_dir, "--signing-key-file", str(key)) as devnest:
        me = http.get(
            f"{devnest.url}/api/v1/users/me", headers={"authorization": f"Bearer {token}"}
        )
        assert me.status_code == 200
    assert "other users" not in devnest.log()
    key.write_text("short")
    line = one_line(
        serve("--port", "0", "--data-dir", str(data_dir), "--signing-key-file", str(key)), 4
    )
    assert "has 5 bytes" in line


def test_what_postgresql_logs_does_not_fill_the_disk(data_dir: Path) -> None:
    """DevNest looks at the file while both run."""
    log, old = data_dir / "postgres.log", data_dir / "postgres.log.old"
    with running(data_dir) as devnest:
        for _ in range(2):
            old.unlink(missing_ok=True)
            with pytest.raises(asyncpg.RaiseError):
                devnest.query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 5000000); END $$")
            eventually(old.exists)
            eventually(lambda: log.stat().st_size < 100_000)
            assert old.stat().st_size <= MAX_LOG_BYTES


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "1 server, 1 worker of up to"),
        (["--hashing", "thread", "--hash-workers", "3"], "1 server, 3 threads in each server"),
        (["--hashing", "inline"], "1 server, passwords are hashed on the event loop"),
        (["--hash-scheme", "argon2id"], "1 server, 1 worker\n"),
    ],
)
def test_the_ready_line_is_followed_by_what_runs(
    options: list[str], words: str, data_dir: Path
) -> None:
    """The pages, the data directory and the processes; the first line is for programs."""
    with running(data_dir, *options) as devnest:
        assert devnest.process.stdout is not None
        lines = [devnest.process.stdout.readline() for _ in range(3)]
        assert lines[0] == f"  API:       {devnest.url}/docs\n"
        assert lines[1] == f"  data:      {data_dir}, with a PostgreSQL of its own\n"
        assert lines[2].startswith("  processes: ")
        assert words in lines[2]
        root = http.get(f"{devnest.url}/")
        assert (root.status_code, root.headers["location"]) == (307, "/docs")
        assert http.head(f"{devnest.url}/?a=b").headers["location"] == "/docs"
        assert http.post(f"{devnest.url}/").status_code == 405
    assert devnest.log().count("limits are off") == 1


def test_with_limits_nothing_warns_of_them(data_dir: Path) -> None:
    with running(data_dir, "--limits") as devnest:
        pass
    assert "limits are off" not in devnest.log()
