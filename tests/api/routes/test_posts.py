"""Publishing posts and paging through them."""

import uuid
from typing import Any

import httpx
import pytest

from tests.support import DevNest, http, sign_up

POSTS = "/api/v1/posts"


def publish(client: httpx.Client, title: str = "Hello", *tags: str) -> dict[str, Any]:
    answer = client.post(POSTS, json={"title": title, "body": f"about {title}", "tags": list(tags)})
    assert answer.status_code == 201, answer.text
    post: dict[str, Any] = answer.json()
    return post


def pages(client: httpx.Client, **query: object) -> list[list[str]]:
    """All pages of a query, as titles."""
    found, cursor = [], None
    while True:
        answer = client.get(POSTS, params={**query, **({"cursor": cursor} if cursor else {})})  # type: ignore[dict-item]
        assert answer.status_code == 200, answer.text
        found.append([post["title"] for post in answer.json()["items"]])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


def test_a_published_post_is_where_its_location_says(member: httpx.Client, username: str) -> None:
    """201, and the same post from its path, for anyone."""
    answer = member.post(
        POSTS, json={"title": "Hello", "body": "A\nbody ü 👋", "tags": ["c++", "python", "c++"]}
    )
    assert answer.status_code == 201
    post = answer.json()
    assert set(post) == {"id", "author", "title", "body", "tags", "created_at", "updated_at"}
    assert post["author"]["username"] == username
    assert post["tags"] == ["c++", "python"]
    assert http.get(member.base_url.join(answer.headers["location"])).json() == post


def test_pages_hold_each_post_once_newest_first(member: httpx.Client, username: str) -> None:
    """Also while others are published."""
    for number in range(7):
        publish(member, f"post {number}")
    first = member.get(POSTS, params={"author": username, "limit": 3}).json()
    publish(member, "meanwhile")
    rest = pages(member, author=username, limit=3)
    assert [post["title"] for post in first["items"]] == ["post 6", "post 5", "post 4"]
    after = member.get(
        POSTS, params={"author": username, "limit": 3, "cursor": first["next_cursor"]}
    ).json()
    assert [post["title"] for post in after["items"]] == ["post 3", "post 2", "post 1"]
    assert rest == [
        ["meanwhile", "post 6", "post 5"],
        ["post 4", "post 3", "post 2"],
        ["post 1", "post 0"],
    ]


def test_a_page_that_ends_exactly_has_no_next(member: httpx.Client, username: str) -> None:
    """No empty page follows."""
    publish(member)
    publish(member)
    assert pages(member, author=username, limit=2) == [["Hello", "Hello"]]


def test_filters_by_author_and_tag(devnest: DevNest, member: httpx.Client, username: str) -> None:
    """Each alone and both together; an author in any case."""
    tag = uuid.uuid4().hex
    publish(member, "mine tagged", tag, "python")
    publish(member, "mine")
    with devnest.client() as other:
        sign_up(other, f"u{uuid.uuid4().hex[:20]}")
        publish(other, "theirs tagged", tag)
    assert pages(member, tag=tag) == [["theirs tagged", "mine tagged"]]
    assert pages(member, author=username.upper()) == [["mine", "mine tagged"]]
    assert pages(member, author=username, tag=tag) == [["mine tagged"]]
    assert pages(member, author="nobody-at-all") == [[]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"body": "b"}, "title"),
        ({"title": "", "body": "b"}, "title"),
        ({"title": "x" * 201, "body": "b"}, "title"),
        ({"title": "two\nlines", "body": "b"}, "title"),
        ({"title": "t", "body": "nul \0"}, "body"),
        ({"title": "t", "body": "x" * 50_001}, "body"),
        ({"title": "t", "body": "b", "tags": "python"}, "tags"),
        ({"title": "t", "body": "b", "tags": ["Python"]}, "tags"),
        ({"title": "t", "body": "b", "tags": ["a"] * 11}, "tags"),
        ({"title": "t", "body": "b", "tags": [None]}, "tags"),
        ({"title": "t", "body": "b", "author": "me"}, "author"),
    ],
)
def test_a_wrong_post_is_refused(member: httpx.Client, body: dict[str, object], field: str) -> None:
    """422 with the field's name."""
    answer = member.post(POSTS, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "many"},
        {"cursor": "?"},
        {"cursor": "AAAA"},
        {"cursor": "ü"},
        {"cursor": "A" * 10_000},
        {"tag": "\0"},
        {"tag": "Not a tag"},
        {"author": "a"},
        {"author": "ada\n"},
    ],
)
def test_a_wrong_parameter_is_named(client: httpx.Client, query: dict[str, str]) -> None:
    """400 with the parameter's name."""
    answer = client.get(POSTS, params=query)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == list(query)


@pytest.mark.parametrize("post_id", [str(uuid.UUID(int=1)), "no-uuid", "%00", "0" * 5000])
def test_an_unknown_post_is_not_found(client: httpx.Client, post_id: str) -> None:
    """404, whatever stands in the path."""
    assert client.get(f"{POSTS}/{post_id}").status_code == 404
