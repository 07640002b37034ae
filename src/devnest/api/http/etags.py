"""ETags of posts, and conditional requests (RFC 9110, section 13).

A tag names the time of a post's last change, so that a client can edit exactly the version that
it has read. A response also shows the author's username, which may change without a change of the
post. The tag therefore has a second part for the username. Edits compare the first part only.

A proxy that compresses a response changes its tag, to `W/"…"` (nginx, HAProxy) or `"…-gzip"`
(Apache, Caddy). DevNest sends only strong tags, and each names one version of the post, however
its bytes are encoded. DevNest therefore accepts its own tags in these forms as well, even in
`If-Match`: otherwise `If-Match` would always fail behind such a proxy (docs/decisions/0007).
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zlib import crc32

from devnest.api.http.problems import FieldError, ProblemError

__all__ = ["Conditions", "entity_tag", "read_conditions"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_CONDITION_BYTES = 4096  # all lines of one field together; room for more than a hundred tags
ENTITY_TAG = re.compile(rb'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')  # RFC 9110, 8.8.3
# The text between the quotes of a tag made by `entity_tag`: microseconds since 1970 and the CRC of
# the username, both in hexadecimal, and a proxy's suffix. 14 digits reach beyond the year 4000.
OWN_TAG = re.compile(rb"(([1-9a-f][0-9a-f]{0,13})-[0-9a-f]{8})(?:-(?:gzip|br|zstd|deflate))?")


class ListedTags(NamedTuple):
    """The tags in an `If-Match` or `If-None-Match` field."""

    is_any: bool  # the field is `*`
    own: dict[str, datetime]  # by tag without quotes: the time of last change that it names

    @property
    def versions(self) -> list[datetime]:
        """The times of last change that the field lists."""
        return list(self.own.values())

    def has(self, tag: str) -> bool:
        """Whether the field lists an ETag, in any form that a proxy may have given it.

        Args:
            tag: The ETag of a post, with its quotes.
        """
        return self.is_any or tag.strip('"') in self.own


class Conditions(NamedTuple):
    """The preconditions of a request. A field that the request does not have is None."""

    if_match: ListedTags | None
    if_none_match: ListedTags | None

    @property
    def allowed_versions(self) -> list[datetime] | None:
        """The times of last change that a post may have to be changed; None if any will do."""
        return None if self.if_match is None or self.if_match.is_any else self.if_match.versions

    @property
    def excluded_versions(self) -> list[datetime]:
        """The times of last change at which the post must not be changed."""
        return [] if self.if_none_match is None else self.if_none_match.versions

    @property
    def excludes_all(self) -> bool:
        """Whether no version may be changed: `If-None-Match: *`."""
        return self.if_none_match is not None and self.if_none_match.is_any


def entity_tag(updated_at: datetime, author: str) -> str:
    """Make the strong ETag of a post.

    Args:
        updated_at: The time of the post's last change.
        author: The author's username now.

    Returns:
        The tag with its quotes.
    """
    return f'"{(updated_at - EPOCH) // MICROSECOND:x}-{crc32(author.encode()):08x}"'


def read_conditions(headers: Iterable[tuple[bytes, bytes]]) -> Conditions:
    """Read the preconditions of a request.

    Args:
        headers: All headers of the request, names in lower case. Several lines of one field
            count as one list (RFC 9110, 5.3).

    Raises:
        ProblemError: 400 if a field is longer than `MAX_CONDITION_BYTES`.
    """
    match, none_match = list[bytes](), list[bytes]()
    for name, value in headers:
        if name == b"if-match":
            match.append(value)
        elif name == b"if-none-match":
            none_match.append(value)
    return Conditions(_listed("If-Match", match), _listed("If-None-Match", none_match))


def _listed(field: str, lines: list[bytes]) -> ListedTags | None:
    if not lines:
        return None
    listed = b", ".join(lines)
    if len(listed) > MAX_CONDITION_BYTES:
        errors = [FieldError(field, f"more than {MAX_CONDITION_BYTES:,} bytes")]
        raise ProblemError(
            400, "a condition is too long", kind="urn:devnest:parameter", errors=errors
        )
    own = [OWN_TAG.fullmatch(tag) for tag in ENTITY_TAG.findall(listed)]
    versions = {
        match[1].decode(): EPOCH + int(match[2], 16) * MICROSECOND for match in own if match
    }
    return ListedTags(listed.strip() == b"*", versions)
