"""Conditions of requests: what is read of any header."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.api.http.etags import MAX_CONDITION_BYTES, entity_tag, read_conditions
from devnest.api.http.problems import ProblemError

Times = st.datetimes(datetime(1971, 1, 1), datetime(3000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (hypothesis wants it so)
Opaque = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=30
)
FORMS = ['"{}"', 'W/"{}"', '"{}-gzip"', 'W/"{}-br"', '"{}-zstd"', '"{}-deflate"']


@given(
    Times, st.text(max_size=20), st.lists(Opaque, max_size=5), st.sampled_from(FORMS),
    st.sampled_from([",", ", ", " ,\t", ",,"]), st.integers(0, 5), st.integers(0, 6),
)  # fmt: skip
def test_a_tag_is_found_among_any_others(
    at: datetime, author: str, others: list[str], form: str, comma: str, place: int, lines: int
) -> None:
    """Wherever it stands, in every form that a proxy gives it, in one line or several.

    And only where it is.
    """
    tag = entity_tag(at, author)
    listed = [f'"{other}"' for other in others]
    mine = [*listed[:place], form.format(tag.strip('"')), *listed[place:]]
    for tags, is_there in ((mine, True), (listed, tag.strip('"') in others)):
        parts = [comma.join(tags[:lines]), comma.join(tags[lines:])]
        headers = [(b"if-match", part.encode("latin-1")) for part in parts if part]
        found = read_conditions([(b"host", b"x"), *headers]).if_match
        assert (found is not None and found.has(tag)) is is_there
        assert found is None or (at in found.versions) is is_there
    assert read_conditions(headers).if_none_match is None


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"*", b'"', b"W/", b'"1-00000000"', b","]),
        max_size=6,
    )
)
def test_any_header_is_read(lines: list[bytes]) -> None:
    """Garbage lists nothing of ours, and never fails."""
    for name in (b"if-match", b"if-none-match"):
        found = read_conditions([(name, line) for line in lines])
        of = found.if_match if name == b"if-match" else found.if_none_match
        assert (of is None) == (not lines)
        if of is not None:
            assert of.is_any == (b", ".join(lines).strip() == b"*")
            assert all(version.tzinfo is UTC for version in of.versions)


def test_a_list_that_is_too_long_is_refused() -> None:
    """One byte more than it may have."""
    assert read_conditions([(b"if-match", b" " * MAX_CONDITION_BYTES)]).if_match is not None
    with pytest.raises(ProblemError, match="too long"):
        read_conditions([(b"if-match", b" " * (MAX_CONDITION_BYTES + 1))])
