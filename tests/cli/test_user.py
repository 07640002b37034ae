"""`devnest user`, beside a running DevNest and without one."""

import hashlib
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from tests.support import DevNest, eventually, prepare, running, sign_in, sign_up

ME = "/api/v1/users/me"


def user(data_dir: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devnest", "user", *arguments, "--data-dir", str(data_dir)],
        input=typed, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def done(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_what_load_tests_leave_is_counted_and_removed(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """A run's accounts and posts go, on every server; an account that only looks like one stays."""
    url = f"http://127.0.0.1:{client.base_url.port}"
    run = subprocess.run(
        [sys.executable, "-m", "devnest", "load", url, "--vus", "2", "--duration", "1s"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    marked = devnest.query("SELECT id FROM accounts WHERE email LIKE '%@load.example'")
    assert marked
    alike = f"u{username[-8:].encode().hex()[:8]}x0n1"
    sign_up(client, alike)  # its address is another
    counted = done(user(devnest.data_dir, "remove-load-tests"))
    assert f"{len(marked):,} accounts of load tests" in counted
    removed = done(user(devnest.data_dir, "remove-load-tests", "--yes"))
    assert removed.startswith(f"removed: {len(marked):,} accounts")
    assert not devnest.query("SELECT id FROM accounts WHERE email LIKE '%@load.example'")
    assert client.get(ME).status_code == 200
    ids = [row["id"] for row in marked]
    events = devnest.query(
        "SELECT 1 FROM audit_log WHERE event = 'account_delete' AND account_id = ANY($1)", ids
    )
    assert len(events) == len(ids)
    assert done(user(devnest.data_dir, "remove-load-tests", "--yes")).startswith("removed: 0 ")


def test_a_disabled_account_is_out_at_once(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """Its sessions end on the running servers, nobody signs in; enabled, its holder does."""
    sign_up(client, username)
    assert "sessions ended: 1" in done(user(devnest.data_dir, "disable", username.upper()))
    eventually(lambda: client.get(ME).status_code == 401)
    login = {"username": username, "password": "correct horse battery"}
    refused = client.post("/api/v1/auth/login", json=login)
    unknown = client.post("/api/v1/auth/login", json={**login, "username": f"x{username[:20]}"})
    assert refused.status_code == unknown.status_code == 401
    assert {**refused.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    done(user(devnest.data_dir, "enable", username))
    sign_in(client, username)
    events = devnest.query(
        "SELECT event FROM audit_log JOIN accounts a ON a.id = account_id WHERE a.username = $1"
        " AND user_agent = 'devnest user' ORDER BY audit_log.id",
        username,
    )
    assert [row["event"] for row in events] == ["account_disable", "account_enable"]


def test_sessions_are_listed_and_revoked(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """With address and user agent; revoked, they are gone, and the account is not."""
    client.headers["user-agent"] = "a browser"
    sign_up(client, username)
    sign_in(client, username)
    lines = done(user(devnest.data_dir, "sessions", username)).splitlines()
    assert len(lines) == 2
    assert all(line.endswith("127.0.0.1  a browser") for line in lines)
    assert "sessions ended: 2" in done(user(devnest.data_dir, "revoke", username))
    eventually(lambda: client.get(ME).status_code == 401)
    assert done(user(devnest.data_dir, "sessions", username)) == ""
    sign_in(client, username)


def test_an_account_is_made_without_a_running_devnest(data_dir: Path, username: str) -> None:
    """Under the API's rules; the password comes from standard input, and signs in later."""
    prepare(data_dir)
    make = ["create", username, f"{username}@example.org", "--hash-cost", "4"]
    assert username in done(user(data_dir, *make, typed="correct horse battery\n"))
    again = user(data_dir, *make, typed="correct horse battery\n")
    assert (again.returncode, again.stderr) == (2, "devnest: this username is taken\n")
    with running(data_dir) as devnest, devnest.client() as client:
        sign_in(client, username)


def test_a_directory_without_a_database_is_told_and_left_alone(tmp_path: Path) -> None:
    """A mistyped one, say: status 4 and what makes one; nothing is made."""
    run = user(tmp_path / "typo", "sessions", "ada")
    assert run.returncode == 4
    assert "devnest serve" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "email", "password", "message"),
    [
        ("a", "a@example.org", "correct horse battery", "username"),
        ("b b", "b@example.org", "correct horse battery", "Expected letters, digits, - and _"),
        ("ada", "nobody", "correct horse battery", "email"),
        ("ada", "ada@example.org", "password123", "common"),
    ],
)
def test_an_account_the_api_would_refuse_is_refused(
    name: str, email: str, password: str, message: str
) -> None:
    """Status 2 and what is wrong, before a database is looked for."""
    run = CliRunner().invoke(
        app, ["user", "create", name, email, "--data-dir", "/nowhere"], input=f"{password}\n"
    )
    assert run.exit_code == 2
    assert message in run.stderr
    assert (
        len(run.stderr.splitlines()) == 1
    )  # it is about the argument, not about how the command is used


LEAKED = "leaked but otherwise fine"


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize(
    ("option", "password", "message"),
    [
        ("--password-min-length", "xk2vqz9wpmcb", "shorter than 15 characters"),
        ("--breached-passwords", LEAKED, "known from a data breach"),
    ],
)
def test_the_operator_s_rules_for_passwords_hold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    password: str,
    message: str,
    by: str,
) -> None:
    """Those that `devnest serve` was given, by the same options and variables."""
    leaked = tmp_path / "leaked"
    leaked.write_text(f"{hashlib.sha1(LEAKED.encode()).hexdigest().upper()}:1\n")
    value = str(leaked) if "breached" in option else "15"
    command = ["user", "create", "ada", "ada@example.org", "--data-dir", "/nowhere"]
    if by == "option":
        command += [option, value]
    else:
        monkeypatch.setenv(f"DEVNEST{option.upper().removeprefix('-').replace('-', '_')}", value)
    run = CliRunner().invoke(app, command, input=f"{password}\n")
    assert run.exit_code == 2
    assert message in run.stderr


@pytest.mark.parametrize("command", ["disable", "sessions"])
def test_an_account_that_is_not_there_is_told(devnest: DevNest, command: str) -> None:
    """Status 2 and its name, no traceback."""
    run = user(devnest.data_dir, command, "nobody-at-all")
    assert run.returncode == 2
    assert run.stderr == "devnest: no account is called nobody-at-all\n"
