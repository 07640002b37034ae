"""`devnest keys`, beside a running DevNest."""

import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.keys import KEYS_FILE
from tests.support import PATIENCE_S, DevNest, eventually, running, sign_in, sign_up

ME = "/api/v1/users/me"
JWKS = "/.well-known/jwks.json"


def keys(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devnest", "keys", *arguments, "--data-dir", str(data_dir)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def lines(run: subprocess.CompletedProcess[str]) -> list[str]:
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_rotation_signs_nobody_out_and_needs_no_restart(data_dir: Path, username: str) -> None:
    """Every server takes the new key up; old tokens go on; other services can verify.

    A leaked key ends at once.
    """
    with running(data_dir, "--processes=2") as devnest, devnest.client() as client:
        old = sign_up(client, username)
        assert client.get(JWKS).json() == {"keys": []}
        (only,) = lines(keys(data_dir, "list"))
        assert only.split() == [jwt.get_unverified_header(old)["kid"], "HS256", "signs"]

        shown = lines(keys(data_dir, "rotate", "--algorithm", "EdDSA", "--delay", "0"))
        new_kid = shown[-1].split()[0]
        assert "verifies until" in shown[0]
        eventually(
            lambda: (
                jwt.get_unverified_header(sign_in(client, username)["access_token"])["kid"]
                == new_kid
            )
        )
        new = str(client.headers["authorization"]).split()[1]
        # Whichever server answers; without a delay one may learn of the key after the other.
        eventually(lambda: all(devnest_says(devnest, new) == 200 for _ in range(10)))
        assert {devnest_says(devnest, old) for _ in range(10)} == {200}

        published = client.get(JWKS)
        assert published.headers["cache-control"] == "public, max-age=15"
        claims = jwt.decode(
            new, jwt.PyJWKSet.from_dict(published.json())[new_kid], ["EdDSA"], audience="devnest"
        )
        assert claims["iss"] == "devnest"
        assert devnest_says(devnest, new[:-4] + "AAAA") == 401

        assert len(lines(keys(data_dir, "rotate", "--discard-old"))) == 1
        eventually(lambda: {devnest_says(devnest, token) for token in (old, new)} == {401})
        sign_in(client, username)
        assert (data_dir / KEYS_FILE).stat().st_mode & 0o777 == 0o600


def devnest_says(devnest: DevNest, token: str) -> int:
    """On a connection of its own."""
    with devnest.client() as client:
        return client.get(ME, headers={"authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("command", ["list", "rotate"])
def test_a_mistake_is_told(tmp_path: Path, command: str) -> None:
    """Status 4, one line, no traceback."""
    run = CliRunner().invoke(app, ["keys", command, "--data-dir", str(tmp_path / "nowhere")])
    assert run.exit_code == 4
    assert len(run.stderr.splitlines()) == 1
    assert "nowhere" in run.stderr


def test_eddsa_without_its_package_is_told(tmp_path: Path) -> None:
    """What to install; the keys stay as they are."""
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "sys.argv[1:] = ['keys', 'rotate', '--algorithm', 'EdDSA', '--data-dir', sys.argv[1]]\n"
        "from devnest.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 4, run.stderr
    assert "pip install 'devnest[eddsa]'" in run.stderr
    assert len(lines(keys(tmp_path, "list"))) == 1
