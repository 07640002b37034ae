"""Changing and deleting posts; tags and public pages."""

import threading
import uuid
from typing import Any

import httpx
import pytest

from tests.support import PASSWORD, PATIENCE_S, DevNest, eventually, http, sign_up

POSTS = "/api/v1/posts"


@pytest.fixture
def post(member: httpx.Client) -> dict[str, Any]:
    """A post of `member`."""
    answer = member.post(POSTS, json={"title": "Hello", "body": "A body", "tags": ["python"]})
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


def test_an_author_changes_what_is_given(member: httpx.Client, post: dict[str, Any]) -> None:
    """The rest stays; the change has a time and a new ETag."""
    path = f"{POSTS}/{post['id']}"
    before = member.get(path)
    answer = member.patch(path, json={"title": "Hello again", "tags": ["c", "c", "python"]})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed == {
        **post,
        "title": "Hello again",
        "tags": ["c", "python"],
        "updated_at": changed["updated_at"],
    }
    assert changed["updated_at"] > post["updated_at"]
    assert answer.headers["etag"] != before.headers["etag"]
    after = member.get(path)
    assert (after.json(), after.headers["etag"]) == (changed, answer.headers["etag"])
    assert member.patch(path, json={"tags": []}).json()["tags"] == []


def test_an_author_s_new_name_is_another_etag(
    member: httpx.Client, post: dict[str, Any], username: str
) -> None:
    """For the answer has it; the post is the same version, and an edit of it goes through."""
    path = f"{POSTS}/{post['id']}"
    before = member.get(path).headers["etag"]
    change = {"username": f"{username[:20]}x", "password": PASSWORD}
    assert member.patch("/api/v1/users/me", json=change).status_code == 200
    assert member.get(path).headers["etag"] != before
    assert (
        member.patch(path, json={"title": "Changed"}, headers={"if-match": before}).status_code
        == 200
    )


def test_a_change_of_an_old_version_is_refused(member: httpx.Client, post: dict[str, Any]) -> None:
    """412, and nothing is lost; the right version, one of several and `*` pass."""
    path = f"{POSTS}/{post['id']}"
    old = member.get(path).headers["etag"]
    new = member.patch(path, json={"title": "Second"}, headers={"if-match": old}).headers["etag"]
    for wrong in (
        old,
        f"W/{old}",
        '"zzz"',
        "",
        new[1:-1],
        new.upper(),
        '"0' + new[1:],
        '"' + "f" * 40 + '"',
        '"x", "y"',
    ):
        assert (
            member.patch(path, json={"title": "Lost"}, headers={"if-match": wrong}).status_code
            == 412
        ), wrong
        assert member.delete(path, headers={"if-match": wrong}).status_code == 412
        assert member.get(path, headers={"if-match": wrong}).status_code == 412
    assert member.get(path).json()["title"] == "Second"
    third = member.patch(path, json={"title": "Third"}, headers={"if-match": f"{old}, {new}"})
    assert third.status_code == 200
    assert member.delete(path, headers={"if-match": "*"}).status_code == 204


@pytest.mark.parametrize("form", ['W/"{}"', '"{}-gzip"', '"{}-br"', 'W/"{}-zstd"', '"{}-deflate"'])
def test_a_proxy_that_compresses_locks_nobody_out(
    member: httpx.Client, post: dict[str, Any], form: str
) -> None:
    """It changes the tag of every answer.

    Whoever sends that back has read this version, and no other.
    """
    path = f"{POSTS}/{post['id']}"
    old = member.get(path).headers["etag"].strip('"')
    assert member.get(path, headers={"if-none-match": form.format(old)}).status_code == 304
    answer = member.patch(path, json={"title": "Second"}, headers={"if-match": form.format(old)})
    assert answer.status_code == 200
    assert (
        member.patch(
            path, json={"title": "Lost"}, headers={"if-match": form.format(old)}
        ).status_code
        == 412
    )
    assert member.get(path, headers={"if-none-match": form.format(old)}).status_code == 200
    assert member.get(path).json()["title"] == "Second"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_client_has_is_not_sent_again(
    member: httpx.Client, post: dict[str, Any], method: str
) -> None:
    """304 with the tag and without content, or anything said of it."""
    path = f"{POSTS}/{post['id']}"
    etag = member.get(path).headers["etag"]
    for known in (etag, f"W/{etag}", f'"zzz", {etag}', f'"a,b",{etag}', "*"):
        answer = member.request(method, path, headers={"if-none-match": known})
        assert (answer.status_code, answer.headers["etag"], answer.content) == (304, etag, b""), (
            known
        )
        assert not {"content-length", "content-type", "transfer-encoding"} & answer.headers.keys()
    for other in ('"zzz"', "", etag[1:-1], f'{etag[:-1]}-zip"', f'"x{etag[1:]}'):
        assert member.request(method, path, headers={"if-none-match": other}).status_code == 200, (
            other
        )
    assert member.get(f"{POSTS}/{uuid.uuid4()}", headers={"if-none-match": "*"}).status_code == 404


def test_an_author_s_new_name_is_news(
    member: httpx.Client, post: dict[str, Any], username: str
) -> None:
    """Though no edit depends on it: the answer has it."""
    path = f"{POSTS}/{post['id']}"
    etag = member.get(path).headers["etag"]
    change = {"username": f"{username[:20]}x", "password": PASSWORD}
    assert member.patch("/api/v1/users/me", json=change).status_code == 200
    assert member.get(path, headers={"if-none-match": etag}).status_code == 200


def test_a_change_can_be_kept_from_a_version(member: httpx.Client, post: dict[str, Any]) -> None:
    """`If-None-Match` of a change: 412 for the versions that it names, and for `*` where there
    is a post.
    """
    path = f"{POSTS}/{post['id']}"
    old = member.get(path).headers["etag"]
    for named in (old, f"W/{old}", "*", f'"zzz", {old}'):
        assert (
            member.patch(path, json={"title": "Lost"}, headers={"if-none-match": named}).status_code
            == 412
        ), named
        assert member.delete(path, headers={"if-none-match": named}).status_code == 412, named
    assert member.get(path).json() == post
    assert (
        member.delete(f"{POSTS}/{uuid.uuid4()}", headers={"if-none-match": "*"}).status_code == 404
    )
    new = member.patch(path, json={"title": "Second"}, headers={"if-none-match": '"zzz"'}).headers[
        "etag"
    ]
    both = {"if-match": new, "if-none-match": old}
    assert member.patch(path, json={"title": "Third"}, headers=both).status_code == 200
    assert member.delete(path, headers={"if-none-match": f"{old}, {new}"}).status_code == 204


def test_several_lines_of_a_condition_are_one_list(
    member: httpx.Client, post: dict[str, Any]
) -> None:
    """RFC 9110, 5.3: whichever line has the right tag."""
    path = f"{POSTS}/{post['id']}"
    etag = member.get(path).headers["etag"]
    for forms in (['"zzz"', "{}"], ["{}", '"zzz"'], ["", "{}", ""]):
        lines = [form.format(etag) for form in forms]
        known = [("if-none-match", line) for line in lines]
        assert member.get(path, headers=known).status_code == 304
        wanted = [("if-match", line) for line in lines]
        answer = member.patch(path, json={"title": "Changed"}, headers=wanted)
        assert answer.status_code == 200
        etag = answer.headers["etag"]
        assert member.patch(path, json={"title": "Lost"}, headers=wanted).status_code == 412


def test_a_condition_is_bounded(member: httpx.Client, post: dict[str, Any]) -> None:
    """400 with its name, in one line or in many."""
    path = f"{POSTS}/{post['id']}"
    for name in ("If-Match", "If-None-Match"):
        for headers in ([(name, '"a",' * 1500)], [(name, f'"{"a" * 60}"')] * 80):
            for method in ("GET", "DELETE"):
                answer = member.request(method, path, headers=headers)
                assert answer.status_code == 400
                assert [error["field"] for error in answer.json()["errors"]] == [name]


def test_of_two_changes_of_one_version_one_wins(
    devnest: DevNest, member: httpx.Client, post: dict[str, Any]
) -> None:
    """The other is told."""
    path = f"{POSTS}/{post['id']}"
    etag = member.get(path).headers["etag"]
    together, statuses = threading.Barrier(8), list[int]()

    def change(number: int) -> None:
        with devnest.client() as own:
            own.headers["authorization"] = member.headers["authorization"]
            together.wait(PATIENCE_S)
            answer = own.patch(path, json={"title": f"{number}"}, headers={"if-match": etag})
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(statuses) == [200] + [412] * 7


def test_only_the_author_may(devnest: DevNest, member: httpx.Client, post: dict[str, Any]) -> None:
    """403 for another, 401 for nobody, 404 where there is nothing."""
    path = f"{POSTS}/{post['id']}"
    with devnest.client() as other:
        assert other.patch(path, json={"title": "Mine"}).status_code == 401
        assert other.delete(path).status_code == 401
        sign_up(other, f"u{uuid.uuid4().hex[:20]}")
        assert other.patch(path, json={"title": "Mine"}).status_code == 403
        assert other.delete(path).status_code == 403
        assert other.patch(f"{POSTS}/{uuid.uuid4()}", json={}).status_code == 404
        assert other.delete(f"{POSTS}/{uuid.uuid4()}").status_code == 404
    assert member.get(path).json() == post


@pytest.mark.parametrize(
    "body", [{"title": ""}, {"title": None}, {"body": "\0"}, {"tags": ["A"]}, {"author": "x"}]
)
def test_a_wrong_change_is_refused(
    member: httpx.Client, post: dict[str, Any], body: dict[str, object]
) -> None:
    """422 with the field's name."""
    answer = member.patch(f"{POSTS}/{post['id']}", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == list(body)


def test_a_deleted_post_is_gone(member: httpx.Client, post: dict[str, Any]) -> None:
    """With its comments."""
    path = f"{POSTS}/{post['id']}"
    assert member.post(f"{path}/comments", json={"body": "first"}).status_code == 201
    assert member.delete(path).status_code == 204
    for answer in (member.get(path), member.get(f"{path}/comments"), member.delete(path)):
        assert answer.status_code == 404


def test_tags_are_counted(member: httpx.Client) -> None:
    """Most used first."""
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    for tags in ([one, two], [one, two], [one]):
        member.post(POSTS, json={"title": "t", "body": "b", "tags": tags})

    def counts() -> dict[str, int]:
        return {row["tag"]: row["count"] for row in member.get("/api/v1/tags").json()}

    eventually(
        lambda: counts().items() >= {one: 3, two: 2}.items()
    )  # counts of before may still be remembered
    assert list(counts().values()) == sorted(counts().values(), reverse=True)


def test_a_public_page_shows_no_address(member: httpx.Client, username: str) -> None:
    """In any case of the name; 404 for what is no name."""
    answer = http.get(member.base_url.join(f"/api/v1/users/{username.upper()}"))
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "username", "created_at"}
    assert answer.json()["username"] == username
    for nobody in ("nobody-at-all", "%00", "a@example.org", "%ff"):
        assert http.get(f"{member.base_url}/api/v1/users/{nobody}").status_code == 404
