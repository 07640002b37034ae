"""Pages that are bounded in bytes, whatever they list."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.api.http.cursors import decode_cursor
from devnest.api.http.pages import MAX_PAGE_BYTES, encode_page
from devnest.store import Session, TagCount

POSTS = "/api/v1/posts"
BRACKETS_BYTES = 100  # around the items of a page, and its cursor
CONTROL = "\x01"  # six bytes in JSON


class Thing(msgspec.Struct, frozen=True):
    """Something to list."""

    id: uuid.UUID
    body: str


def pages_of(
    client: httpx.Client, path: str, **query: object
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The size and the items of each page, to the last."""
    cursor = None
    while True:
        answer = client.get(path, params={**query, **({"cursor": cursor} if cursor else {})})  # type: ignore[dict-item]
        assert answer.status_code == 200, answer.text
        yield len(answer.content), answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


def test_a_page_of_the_largest_posts_is_bounded(member: httpx.Client, username: str) -> None:
    """Three fit, the cursor goes on after them, and no post is lost.

    A small one among them is where it belongs.
    """
    ids = []
    for number in range(8):
        body = "small" if number == 4 else CONTROL * 50_000
        answer = member.post(POSTS, json={"title": f"{number}", "body": body})
        assert answer.status_code == 201
        ids.append(answer.json()["id"])
    found = list(pages_of(member, POSTS, author=username, limit=100))
    assert [item["id"] for _, items in found for item in items] == ids[::-1]
    assert [len(items) for _, items in found] == [4, 3, 1]
    assert all(size <= MAX_PAGE_BYTES + BRACKETS_BYTES for size, _ in found)


def test_a_page_of_the_longest_comments_is_bounded(member: httpx.Client) -> None:
    """As one of posts is."""
    post = member.post(POSTS, json={"title": "t", "body": "b"}).json()
    path = f"{POSTS}/{post['id']}/comments"
    ids = [member.post(path, json={"body": CONTROL * 5_000}).json()["id"] for _ in range(40)]
    found = list(pages_of(member, path, limit=100))
    assert [item["id"] for _, items in found for item in items] == ids
    assert [len(items) for _, items in found] == [34, 6]
    assert all(size <= MAX_PAGE_BYTES + BRACKETS_BYTES for size, _ in found)


@given(
    sizes=st.lists(st.integers(0, MAX_PAGE_BYTES // 2) | st.integers(0, 5), max_size=12),
    limit=st.integers(1, 12),
    text=st.sampled_from("a\x01\n😀"),
)
def test_pages_hold_everything_once(sizes: list[int], limit: int, text: str) -> None:
    """Each in its order, in pages that are as large as they may be, and the last one alone has
    no next.
    """
    things = [Thing(uuid.uuid4(), text * (size // len(text.encode()))) for size in sizes]
    listed, rest = list[str](), things
    while True:
        page = msgspec.json.decode(encoded := encode_page(rest, limit))
        items = page["items"]
        assert len(items) <= limit
        assert len(encoded) <= MAX_PAGE_BYTES + BRACKETS_BYTES or len(items) == 1
        listed += [item["id"] for item in items]
        if page["next_cursor"] is None:
            break
        assert decode_cursor(page["next_cursor"]) == uuid.UUID(listed[-1])
        rest = rest[len(items) :]
        if len(items) < limit:
            assert len(encoded) + len(msgspec.json.encode(rest[0])) > MAX_PAGE_BYTES
    assert listed == [str(thing.id) for thing in things]


def test_the_other_lists_are_smaller_than_a_page() -> None:
    """They have no cursor: as many items as there can be, each as large as it can be, are less
    than a page.
    """
    now = datetime.now(UTC) + timedelta(microseconds=1)
    sessions = [Session(uuid.uuid4(), now, now, now, "f" * 256, '"' * 256, current=False)] * 100
    tags = [TagCount("x" * 32, 10**18)] * 200
    for each in (sessions, tags):
        assert len(msgspec.json.encode(each)) < MAX_PAGE_BYTES


@pytest.mark.parametrize("path", [POSTS, f"{POSTS}/{{}}/comments"], ids=["posts", "comments"])
@pytest.mark.parametrize(
    "limit",
    ["", "0", "00", "05", "101", "100.0", "1e1", "1E1", "+5", "-5", " 5", "5 ", "1_0", "0x5", "\u0663", "\uff15", "5\n",
     "5\0", "true", "null", "1" * 5000],
)  # fmt: skip
def test_a_limit_is_written_in_digits(member: httpx.Client, path: str, limit: str) -> None:
    """400 with its name; whatever else reads as a number is none."""
    if "{}" in path:
        path = path.format(member.post(POSTS, json={"title": "t", "body": "b"}).json()["id"])
    answer = member.get(path, params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"field": "limit", "detail": "Expected a whole number from 1 to 100"}
    ]
    for good in ("1", "9", "10", "99", "100"):
        assert member.get(path, params={"limit": good}).status_code == 200


def test_the_document_calls_a_limit_a_number(client: httpx.Client) -> None:
    """Which is how clients are made from it."""
    paths = client.get("/openapi.json").json()["paths"]
    for path in (POSTS, f"{POSTS}/{{post_id}}/comments"):
        (limit,) = [each for each in paths[path]["get"]["parameters"] if each["name"] == "limit"]
        expected = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
        assert {
            name: value for name, value in limit["schema"].items() if name != "description"
        } == expected
