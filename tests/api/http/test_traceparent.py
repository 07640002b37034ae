"""The `traceparent` header of W3C Trace Context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.api.http.traceparent import Parent, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_what_a_caller_says(text: str, is_sampled: bool) -> None:
    """Also in a later version, which may say more."""
    assert parse_traceparent(text.encode()) == Parent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-01\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_what_is_ignored(text: str) -> None:
    """Malformed, of no trace, of the version that there never is, or huge."""
    assert parse_traceparent(text.encode()) is None


@given(st.binary(max_size=300))
def test_no_bytes_are_an_error(value: bytes) -> None:
    """Whatever a client sends."""
    assert parse_traceparent(value) is None or len(value) >= 55
