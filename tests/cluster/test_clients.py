"""Clients that people have, which offer HTTP/2 to a server without TLS: each is answered in
HTTP/1.1.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import PASSWORD, PATIENCE_S, DevNest

JAVA = """
import java.net.URI;
import java.net.http.*;

public class Register {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();  // of HTTP/2: it offers h2c with its first request
        for (int i = 1; i < arguments.length; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[i])).build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version());
        }
    }
}
"""


def runs(*command: str) -> bool:
    """Whether there is such a program; macOS has a `javac` that only says that there is none."""
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True).returncode == 0
    )


def registrations(username: str) -> list[str]:
    """Bodies of three requests, of which the last is refused as the first has the name."""
    names = (username, f"{username}-2", username)
    return [
        json.dumps({"username": n, "email": f"{n}@example.org", "password": PASSWORD})
        for n in names
    ]


def run(*command: str) -> list[str]:
    """The lines that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not runs("curl", "--version"), reason="NOT TESTED: there is no curl")
def test_curl_may_offer_http_2(devnest: DevNest, username: str) -> None:
    """`--http2` offers h2c with every first request of a connection, its body included."""
    arguments = []
    for body in registrations(username):
        arguments += [
            "--next",
            "--http2",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version}\\n",
        ]
        arguments += [
            "-H",
            "content-type: application/json",
            "-d",
            body,
            f"{devnest.url}/api/v1/auth/register",
        ]
    assert run("curl", *arguments[1:]) == ["201 1.1", "201 1.1", "409 1.1"]


@pytest.mark.skipif(not runs("javac", "-version"), reason="NOT TESTED: there is no Java compiler")
def test_java_may_offer_http_2(devnest: DevNest, username: str, tmp_path: Path) -> None:
    """`java.net.http.HttpClient` does by default."""
    source = tmp_path / "Register.java"
    source.write_text(JAVA)
    url = f"{devnest.url}/api/v1/auth/register"
    assert run("java", str(source), url, *registrations(username)) == [
        "201 HTTP_1_1",
        "201 HTTP_1_1",
        "409 HTTP_1_1",
    ]
