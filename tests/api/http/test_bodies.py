"""Bodies that cost more to read than they may: counted before they are decoded."""

import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devnest.api.http.bodies import MAX_BRACKETS, MAX_STRINGS, Login, NewPost, decode_body
from devnest.api.http.problems import ProblemError
from tests.support import DevNest

REGISTER = "/api/v1/auth/register"
POSTS = "/api/v1/posts"
JSON = {"content-type": "application/json"}
STRINGS = f"more than {MAX_STRINGS} strings, names of fields included"
BRACKETS = f"more than {MAX_BRACKETS // 2} arrays and objects"
Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('"\\[]{}a\n', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('"\\[{a', max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":1' % number for number in range(count)) + b"}"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (keys(105_000), STRINGS),
        (keys(MAX_STRINGS + 1), STRINGS),
        (b"{" + b",".join([b'"username":"ada"'] * 60_000) + b"}", STRINGS),
        (b'{"username":[' + b",".join([b'"a"'] * 250_000) + b"]}", STRINGS),
        (b"[" + b",".join([b'"\\""'] * 150_000) + b"]", STRINGS),
        (b'{"a":[' + b"[]," * 300_000 + b"[]]}", BRACKETS),
        (b"[" + b",".join([b"{}"] * (MAX_BRACKETS // 2)) + b"]", BRACKETS),
        (b'{"a":[' + b"[]," * 300_000 + b"[" * 50 + b"]" * 50 + b"]}", BRACKETS),
        (b'{"a":[' + b"[]," * 1_000 + b"[" * 200_000 + b"]" * 200_000 + b"]}", BRACKETS),
    ],
    ids=range(9),
)
def test_a_crowded_body_is_refused_as_one(
    client: httpx.Client, content: bytes, detail: str
) -> None:
    """One error in place of a list of them: nothing of it has been built."""
    answer = client.post(REGISTER, content=content, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:devnest:invalid"), answer.text
    assert answer.json()["errors"] == [{"field": "", "detail": detail}]


def test_a_post_may_have_any_quotes_and_brackets_in_its_text(member: httpx.Client) -> None:
    """What stands in a string is counted as no string."""
    for body in ('"' * 50_000, '[{"' * 16_000, "\\" * 50_000, '\\"' * 25_000, '"\\' * 25_000):
        answer = member.post(POSTS, json={"title": '"[{"', "body": body})
        assert answer.status_code == 201, answer.text
        assert answer.json()["body"] == body


def test_many_tags_are_too_many_however_many_they_are(member: httpx.Client) -> None:
    """Named as long as they can be read one by one."""
    for count, field in ((11, "tags"), (200, "tags"), (MAX_STRINGS, ""), (249_000, "")):
        answer = member.post(POSTS, json={"title": "t", "body": "b", "tags": ["a"] * count})
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (
            422,
            [field],
        )


@pytest.mark.parametrize(
    "content",
    [
        b'"' * 1_000_000,
        b"{" + b'"a":1,' * 100_000,
        keys(1000)[:-1],
        b"[" + b'"a" ' * 1000 + b"]",
        keys(1000) + b"x",
    ],
    ids=range(5),
)
def test_a_crowd_that_is_no_json_is_told_so(client: httpx.Client, content: bytes) -> None:
    """400, whatever else is wrong with it."""
    answer = client.post(REGISTER, content=content, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:devnest:malformed"), (
        answer.text
    )


def shape(value: Any) -> tuple[int, int, int]:
    """Depth, strings and brackets of a value."""
    if isinstance(value, str):
        return 0, 1, 0
    if not isinstance(value, list | dict):
        return 0, 0, 0
    inner = [shape(each) for each in (value.values() if isinstance(value, dict) else value)]
    strings = sum(strings for _, strings, _ in inner) + (
        len(value) if isinstance(value, dict) else 0
    )
    return (
        1 + max((depth for depth, _, _ in inner), default=0),
        strings,
        2 + sum(b for _, _, b in inner),
    )


@given(Json, st.sampled_from([Login, NewPost]), st.booleans())
@example([[[[[[]]]]]], Login, True)
@example(["\\"] * 9, Login, True)
@example({"password": "a", "email": "b@c.de"}, Login, True)
def test_strings_and_brackets_are_counted_right(
    value: Any, of: type[msgspec.Struct], spaced: bool
) -> None:
    """Whatever is escaped in whatever string: with small limits, and what a parser finds."""
    body = json.dumps(value, ensure_ascii=not spaced, indent=1 if spaced else None).encode()
    depth, strings, brackets = shape(value)
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("MAX_STRINGS", 8), ("MAX_BRACKETS", 12), ("MAX_DEPTH", 4)):
            patch.setattr(f"devnest.api.http.bodies.{name}", limit)
        try:
            assert isinstance(decode_body(body, of), of)
        except ProblemError as problem:
            kind, errors = problem.kind, problem.errors or []
        else:
            assert strings <= 8
            return
    crowded = [error.detail for error in errors if error.detail.startswith("more than ")]
    if strings <= 8 and brackets <= 12:
        assert not crowded
        assert kind == ("urn:devnest:depth" if depth > 4 else "urn:devnest:invalid")
    elif depth <= 4:
        assert kind == "urn:devnest:invalid"
        assert len(crowded) == len(errors) == 1
    else:
        assert crowded or kind == "urn:devnest:depth"


def test_the_largest_bodies_are_small(devnest: DevNest) -> None:
    """Every route's largest body has a tenth of the strings that one may have."""
    with devnest.client() as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("NewPost", "PostChange", "Registration"):
        fields = schemas[name]["properties"].values()
        assert sum(1 + field.get("maxItems", 1) for field in fields) < MAX_STRINGS // 10
