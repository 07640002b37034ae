"""DevNest behind a proxy, as real processes: who is asking, and what stays private."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import PASSWORD, PATIENCE_S, running, sign_up


@pytest.mark.parametrize(
    ("host", "trusted"), [("::", "127.0.0.1"), ("::", "::ffff:127.0.0.0/104"), ("127.0.0.1", "::ffff:127.0.0.1")]
)
def test_an_ipv4_proxy_is_known_on_whatever_socket(host: str, trusted: str, data_dir: Path, username: str) -> None:
    """A socket on `::` calls it ::ffff:127.0.0.1. Its clients are told apart; garbage is the proxy's own address."""
    told = {
        "203.0.113.9": "203.0.113.9",
        "198.51.100.1, ::ffff:203.0.113.10": "203.0.113.10",
        "203.0.113.11:4711": "203.0.113.11",
        "[2001:db8::1%eth0]:4711": "2001:db8::1",
        "unknown": "127.0.0.1",
        "x" * 256: "127.0.0.1",
        "203.0.113.12, <script>": "127.0.0.1",
    }
    options = [f"--host={host}", f"--trusted-proxies={trusted}", "--limits"]
    with (
        running(data_dir, *options) as devnest,
        httpx.Client(base_url=f"http://127.0.0.1:{urlsplit(devnest.url).port}", timeout=PATIENCE_S) as client,
    ):
        sign_up(client, username)
        credentials = {"username": username, "password": PASSWORD}
        for forwarded in told:
            answer = client.post("/api/v1/auth/login", json=credentials, headers={"x-forwarded-for": forwarded})
            assert answer.status_code == 200, answer.text
        sessions = client.get("/api/v1/auth/sessions").json()
        in_order = sorted(sessions, key=lambda session: session["created_at"])
        assert [session["address"] for session in in_order] == ["127.0.0.1", *told.values()]
        for number in range(40):  # more than one address may fail
            answer = client.post(
                "/api/v1/auth/login",
                json={"username": f"nobody-{number}", "password": PASSWORD},
                headers={"x-forwarded-for": f"203.0.113.{number}"},
            )
            assert answer.status_code == 401, answer.text
    assert devnest.log().count("X-Forwarded-For holds no address") == 1
