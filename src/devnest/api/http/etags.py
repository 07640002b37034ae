"""ETags of posts, and the requests that depend on them (RFC 9110, 13).

A tag is the time of the last change, so that an edit can be made of exactly what was read. An answer names the author
besides, who may get another name: so the tag has a part for it, which no edit depends on.

A proxy that compresses an answer changes its tag, to `W/"…"` (nginx, HAProxy) or `"…-gzip"` (Apache, Caddy). We give
strong tags alone, and each names one version whatever was done to its bytes: so a tag of ours counts in these forms
too, also in `If-Match`, which could never be met behind such a proxy else (docs/decisions/0007).
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zlib import crc32

from devnest.api.http.problems import FieldError, ProblemError

__all__ = ["Conditions", "conditions", "entity_tag"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE = timedelta(microseconds=1)
MAX_CONDITION_BYTES = 4096  # of all lines of one field: more than a hundred tags
TAG = re.compile(rb'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')  # RFC 9110, 8.8.3
# What stands in a tag of ours; 14 digits reach beyond the year 4000.
OURS = re.compile(rb"(([1-9a-f][0-9a-f]{0,13})-[0-9a-f]{8})(?:-(?:gzip|br|zstd|deflate))?")


class Tags(NamedTuple):
    """What a field lists."""

    is_any: bool  # `*`
    ours: dict[
        str, datetime
    ]  # the tags that can be ours, without quotes, and the version that each names

    @property
    def versions(self) -> list[datetime]:
        """The times of the last change that are listed."""
        return list(self.ours.values())

    def has(self, tag: str) -> bool:
        """Whether an ETag of ours is listed, in any form a proxy may have given it."""
        return self.is_any or tag.strip('"') in self.ours


class Conditions(NamedTuple):
    """What a request depends on; None where it does not."""

    if_match: Tags | None
    if_none_match: Tags | None

    @property
    def among(self) -> list[datetime] | None:
        """The versions of which one is to be changed; None: any."""
        return None if self.if_match is None or self.if_match.is_any else self.if_match.versions

    @property
    def not_among(self) -> list[datetime]:
        """The versions that are not to be changed."""
        return [] if self.if_none_match is None else self.if_none_match.versions

    @property
    def excludes_all(self) -> bool:
        """Whether there is no version that could be changed."""
        return self.if_none_match is not None and self.if_none_match.is_any


def entity_tag(updated_at: datetime, author: str) -> str:
    """The strong ETag of a post that was last changed then, by an author who is called so now."""
    return f'"{(updated_at - EPOCH) // ONE:x}-{crc32(author.encode()):08x}"'


def conditions(headers: Iterable[tuple[bytes, bytes]]) -> Conditions:
    """Read the conditions of a request.

    Args:
        headers: All of the request's, names in lower case. Several lines of a field are one list (RFC 9110, 5.3).

    Raises:
        ProblemError: 400 for a list that is too long.
    """
    match, none_match = list[bytes](), list[bytes]()
    for name, value in headers:
        if name == b"if-match":
            match.append(value)
        elif name == b"if-none-match":
            none_match.append(value)
    return Conditions(_tags("If-Match", match), _tags("If-None-Match", none_match))


def _tags(field: str, lines: list[bytes]) -> Tags | None:
    if not lines:
        return None
    listed = b", ".join(lines)
    if len(listed) > MAX_CONDITION_BYTES:
        errors = [FieldError(field, f"more than {MAX_CONDITION_BYTES:,} bytes")]
        raise ProblemError(
            400, "a condition is too long", kind="urn:devnest:parameter", errors=errors
        )
    ours = [OURS.fullmatch(tag) for tag in TAG.findall(listed)]
    versions = {match[1].decode(): EPOCH + int(match[2], 16) * ONE for match in ours if match}
    return Tags(listed.strip() == b"*", versions)
