"""The OpenAPI document against the server: what schemathesis finds in some hundreds of requests."""

import http
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devnest.api.http.bodies import Tokens
from devnest.api.http.problems import Problem
from devnest.api.openapi.examples import RESPONSES
from devnest.api.routes.auth import SignedIn
from devnest.api.routes.comments import CommentPage
from devnest.api.routes.health import Readiness
from devnest.api.routes.jwks import PublicKeys
from devnest.api.routes.posts import Page
from devnest.store import Account, Comment, Post, Profile, Session, TagCount
from tests.support import DevNest, running

TYPES = {
    kind.__name__: kind
    for kind in (
        Account,
        Profile,
        Tokens,
        SignedIn,
        Session,
        Post,
        Page,
        Comment,
        CommentPage,
        TagCount,
        Readiness,
        PublicKeys,
    )
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def untouched(data_dir: Path) -> Iterator[DevNest]:
    """A DevNest without posts of others: a change of those, which schemathesis would find, is
    refused.
    """
    with running(data_dir) as process:
        yield process


def test_schemathesis_finds_nothing(untouched: DevNest, tmp_path: Path) -> None:
    """Schemathesis runs all its checks.

    It sends examples, boundary values, random and wrong input, and follows the links.

    Each route has accepted something, but those that need a mailed token, which no answer has.
    (Where a path has an id, that is left to chance.)
    """
    program = Path(sys.executable).with_name("schemathesis")
    hooks = {"SCHEMATHESIS_HOOKS": "tests.api.tokens_for_schemathesis", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [
            program, "--config-file", ROOT / "tests" / "schemathesis.toml", "run", f"{untouched.url}/openapi.json",
            # One worker: two threads that parse source at once can trip over each other in CPython
            # 3.11 ("AST constructor recursion depth mismatch"), and hypothesis parses lambdas.
            "--max-examples=8", "--request-timeout=120", "--seed=1", "--no-color", "--workers=1",
            "--continue-on-failure", "--report=json", "--report-json-path", report := tmp_path / "report.json",
        ],
        cwd=tmp_path, env={**os.environ, **hooks, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    findings = run.stdout[max(0, run.stdout.find("= ")) :]  # the failures or errors
    assert run.returncode == 0, "\n".join(line[:300] for line in findings.splitlines()[:150])
    assert "✅ Stateful" in run.stdout, run.stdout
    rates = msgspec.json.decode(report.read_bytes())["valid_rates"]
    refused = {
        name
        for name, phases in rates.items()
        if not any(phase["accepted"] for phase in phases.values())
    }
    assert len(rates) > 20
    needs_mail = {"POST /api/v1/auth/password/reset", "POST /api/v1/auth/email/verify"}
    assert {name for name in refused if "{" not in name} == needs_mail


@pytest.fixture(scope="module")
def document(devnest: DevNest) -> dict[str, Any]:
    """The document, as it is served."""
    with devnest.client() as client:
        read: dict[str, Any] = client.get("/openapi.json").json()
        return read


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (m, path, operation)
        for path, of in document["paths"].items()
        for m, operation in of.items()
    ]


@pytest.mark.parametrize("name", TYPES)
def test_an_example_is_what_the_server_could_answer(name: str) -> None:
    """Of the answer's type, all fields and none else."""
    example = msgspec.convert(RESPONSES[name], TYPES[name])
    assert msgspec.to_builtins(example) == RESPONSES[name]
    assert set(RESPONSES) == set(TYPES)


def test_every_answer_has_an_example(document: dict[str, Any]) -> None:
    """Of each route, success and errors; an error's says what an error says."""
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status in ("202", "204", "304"):
                assert not answer.get("content")
                continue
            (content,) = answer["content"].values()
            assert content["example"], (method, path, status)
            if path.startswith("/api/") and status >= "400":
                problem = msgspec.convert(content["example"], Problem)
                assert (str(problem.status), problem.title) == (
                    status,
                    http.HTTPStatus(int(status)).phrase,
                )
                assert ("Retry-After" in answer.get("headers", {})) == (status in ("429", "503"))


def test_every_route_names_its_errors(document: dict[str, Any]) -> None:
    """What a token, a body, a parameter of the query and the database can lead to."""
    for method, path, operation in operations(document):
        if not path.startswith("/api/"):
            continue
        listed = set(operation["responses"])
        parameters = [parameter["in"] for parameter in operation.get("parameters", [])]
        assert "503" in listed, (method, path)
        assert ("401" in listed) or not operation.get("security"), (method, path)
        assert {"400", "408", "413", "415", "422"} <= listed or "requestBody" not in operation, (
            method,
            path,
        )
        assert "400" in listed or "query" not in parameters, (method, path)


def test_everything_is_described_in_sentences(document: dict[str, Any]) -> None:
    """Routes, parameters, errors and types, without anything that is for the readers of the
    code.
    """
    found = dict[str, str]()
    for method, path, operation in operations(document):
        at = f"{method} {path}"
        found[at] = operation.get("description", "")
        assert operation.get("summary"), at
        for parameter in operation.get("parameters", []):
            found[f"{at} {parameter['name']}"] = parameter.get("description", "")
        for status, answer in operation["responses"].items():
            if status >= "300":
                found[f"{at} {status}"] = answer["description"]
    for name, schema in document["components"]["schemas"].items():
        found[name] = schema.get("description", "")
    for at, description in found.items():
        assert description.endswith("."), at
        assert "\n " not in description, at
        assert "Args:" not in description, at
        assert "Attributes:" not in description, at


def test_operation_ids_are_verbs(document: dict[str, Any]) -> None:
    """Generators of clients make methods of them, so they are short, unique and stable."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 25
    verbs = (
        "change",
        "check",
        "create",
        "delete",
        "end",
        "list",
        "login",
        "logout",
        "read",
        "refresh",
        "register",
        "request",
        "reset",
        "verify",
    )
    assert [
        name for name in names if not re.fullmatch(rf"({'|'.join(verbs)})([A-Z][a-z]+)*", name)
    ] == []
    assert {"login", "createPost", "listPosts"} <= set(names)


def test_links_lead_somewhere(document: dict[str, Any]) -> None:
    """From registering to signing in and on, and from a post to all that can be done with it."""
    known = {
        operation["operationId"]: (method, path) for method, path, operation in operations(document)
    }
    found = {
        (path, known[link["operationId"]])
        for _, path, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    }
    assert ("/api/v1/auth/register", ("post", "/api/v1/auth/login")) in found
    assert ("/api/v1/auth/login", ("post", "/api/v1/auth/refresh")) in found
    assert ("/api/v1/posts", ("get", "/api/v1/posts/{post_id}")) in found
    assert len(found) >= 10
