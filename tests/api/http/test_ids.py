"""Ids in paths: one spelling each, on every route."""

import re
import uuid
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.api.http.ids import canonical_id
from tests.support import sign_in

SPELLINGS: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "one capital": lambda text: re.sub("[a-f](?=[^a-f]*$)", lambda letter: letter[0].upper(), text),
    "braces": lambda text: f"{{{text}}}",
    "one brace": lambda text: f"{{{text}",
    "a urn": lambda text: f"urn:uuid:{text}",
    "no hyphens": lambda text: text.replace("-", ""),
    "hyphens elsewhere": lambda text: "-".join(text.replace("-", "")),
    "an underscore": lambda text: f"{text.replace('-', '')[:30]}_{text[-1]}",
    "another script": lambda text: "".join(
        chr(0xFF10 + int(c)) if c.isdigit() else c for c in text
    ),
    "a space": lambda text: f" {text}",
    "a line feed": lambda text: f"{text}\n",
    "plus": lambda text: f"+{text[1:]}",
}


def read(text: str) -> str | None:
    """What a text is read as."""
    try:
        return str(canonical_id(text))
    except ValueError:
        return None


@given(st.uuids())
def test_what_answers_have_is_read(known: uuid.UUID) -> None:
    """Any id."""
    assert canonical_id(str(known)) == known


@given(st.uuids(), st.sampled_from(sorted(SPELLINGS)))
def test_another_spelling_is_no_id(known: uuid.UUID, name: str) -> None:
    """Whatever Python makes of it."""
    spelled = SPELLINGS[name](str(known))
    assert spelled == str(known) or read(spelled) is None


@given(st.text("0123456789abcdefABCDEF-{}_urn:id ", max_size=50))
def test_any_text_is_read_as_itself_or_not_at_all(text: str) -> None:
    """There are no two texts for one id."""
    assert read(text) in (text, None)


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_route_knows_one_spelling(member: httpx.Client, username: str, name: str) -> None:
    """404 as for what is no id; and the right one works."""
    posts = "/api/v1/posts"
    post = member.post(posts, json={"title": "t", "body": "b"}).json()["id"]
    comment = member.post(f"{posts}/{post}/comments", json={"body": "b"}).json()["id"]
    sign_in(member, username)
    session = next(
        each["id"] for each in member.get("/api/v1/auth/sessions").json() if not each["current"]
    )

    def spell(known: str) -> str:
        spelled = SPELLINGS[name](known)
        assert spelled != known
        return quote(spelled)

    for method, path, body in (
        ("GET", f"{posts}/{spell(post)}", None),
        ("PATCH", f"{posts}/{spell(post)}", {"title": "Changed"}),
        ("GET", f"{posts}/{spell(post)}/comments", None),
        ("POST", f"{posts}/{spell(post)}/comments", {"body": "b"}),
        ("DELETE", f"{posts}/{spell(post)}/comments/{comment}", None),
        ("DELETE", f"{posts}/{post}/comments/{spell(comment)}", None),
        ("DELETE", f"{posts}/{spell(post)}", None),
        ("DELETE", f"/api/v1/auth/sessions/{spell(session)}", None),
    ):
        answer = member.request(method, path, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "there is nothing at this path",
        ), (method, path)
    assert member.delete(f"/api/v1/auth/sessions/{session}").status_code == 204
    assert member.delete(f"{posts}/{post}/comments/{comment}").status_code == 204
    assert member.delete(f"{posts}/{post}").status_code == 204
