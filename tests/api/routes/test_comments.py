"""Comments on posts."""

import uuid
from typing import Any

import httpx
import pytest

from tests.support import DevNest, sign_up


@pytest.fixture
def path(member: httpx.Client) -> str:
    """The comments of a post of `member`."""
    answer = member.post("/api/v1/posts", json={"title": "Hello", "body": "A body"})
    return f"/api/v1/posts/{answer.json()['id']}/comments"


def write(client: httpx.Client, path: str, body: str) -> dict[str, Any]:
    answer = client.post(path, json={"body": body})
    assert answer.status_code == 201, answer.text
    comment: dict[str, Any] = answer.json()
    return comment


def test_comments_are_read_oldest_first(member: httpx.Client, path: str, username: str) -> None:
    """In pages that a new comment does not move."""
    written = [write(member, path, f"comment {number}") for number in range(5)]
    assert set(written[0]) == {"id", "author", "body", "created_at"}
    assert written[0]["author"]["username"] == username
    first = member.get(path, params={"limit": 3}).json()
    assert first["items"] == written[:3]
    sixth = write(member, path, "meanwhile")
    rest = member.get(path, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert (rest["items"], rest["next_cursor"]) == ([*written[3:], sixth], None)


def test_a_post_without_comments_has_an_empty_page(member: httpx.Client, path: str) -> None:
    """And a post that is not there has none."""
    assert member.get(path).json() == {"items": [], "next_cursor": None}
    nowhere = f"/api/v1/posts/{uuid.uuid4()}/comments"
    assert member.get(nowhere).status_code == 404
    assert member.post(nowhere, json={"body": "b"}).status_code == 404


def test_a_comment_is_deleted_by_its_author_alone(
    devnest: DevNest, member: httpx.Client, path: str
) -> None:
    """403 for another, 404 under another post."""
    comment = write(member, path, "mine")
    other_post = member.post("/api/v1/posts", json={"title": "Other", "body": "b"}).json()["id"]
    assert member.delete(f"/api/v1/posts/{other_post}/comments/{comment['id']}").status_code == 404
    with devnest.client() as other:
        assert other.delete(f"{path}/{comment['id']}").status_code == 401
        sign_up(other, f"u{uuid.uuid4().hex[:20]}")
        assert other.delete(f"{path}/{comment['id']}").status_code == 403
    assert member.delete(f"{path}/{comment['id']}").status_code == 204
    assert member.delete(f"{path}/{comment['id']}").status_code == 404
    assert member.get(path).json()["items"] == []


@pytest.mark.parametrize(
    "body", [{"body": ""}, {"body": "x" * 5001}, {"body": "\0"}, {"body": 1}, {}]
)
def test_a_wrong_comment_is_refused(
    member: httpx.Client, path: str, body: dict[str, object]
) -> None:
    """422 with the field's name."""
    answer = member.post(path, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["body"]


def test_nobody_comments_unasked(devnest: DevNest, path: str) -> None:
    """401 without a token."""
    with devnest.client() as nobody:
        assert nobody.post(path, json={"body": "b"}).status_code == 401


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"cursor": "?"}])
def test_a_wrong_parameter_is_named(client: httpx.Client, path: str, query: dict[str, str]) -> None:
    """400 with its name."""
    answer = client.get(path, params=query)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == list(query)
