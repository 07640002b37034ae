"""The OpenAPI document against the server: what schemathesis finds in some hundreds of requests."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from tests.support import DevNest, sign_up

CONFIG = Path(__file__).parents[1] / "schemathesis.toml"
ENDS_THE_SESSION = ["--include-path", "/api/v1/auth/logout", "--include-path", "/api/v1/auth/sessions"]
KEEPS_IT = [option.replace("include", "exclude") for option in ENDS_THE_SESSION]


@pytest.mark.parametrize("routes", [KEEPS_IT, ENDS_THE_SESSION], ids=["keeping the session", "ending it"])
def test_schemathesis_finds_nothing(devnest: DevNest, client: httpx.Client, tmp_path: Path, routes: list[str]) -> None:
    """Examples, boundary values, random and wrong input, and chains of requests; all its checks."""
    token = sign_up(client, f"u{uuid.uuid4().hex[:20]}")
    program = Path(sys.executable).with_name("schemathesis")
    run = subprocess.run(
        [
            program, "--config-file", str(CONFIG), "run", f"{devnest.url}/openapi.json",
            "--header", f"Authorization: Bearer {token}", *routes,
            "--max-examples=25", "--request-timeout=120", "--seed=1", "--no-color", "--workers=2",
            "--continue-on-failure",
        ],
        cwd=tmp_path, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = run.stdout[max(0, run.stdout.find("= ")) :]  # the failures or errors
    assert run.returncode == 0, "\n".join(line[:300] for line in report.splitlines()[:150])
