"""ETags of posts: the time of the last change, so that an edit can be made of exactly what was read (RFC 9110, 13).

An answer names the author besides, who may get another name: so the tag has a part for it, which no edit depends on.
"""

import re
from datetime import UTC, datetime, timedelta
from zlib import crc32

__all__ = ["entity_tag", "versions"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE = timedelta(microseconds=1)
OURS = re.compile(r'"([0-9a-f]{1,14})-[0-9a-f]{8}"')  # 14 digits reach beyond the year 4000
LONGEST_HEADER = 1024


def entity_tag(updated_at: datetime, author: str) -> str:
    """The strong ETag of a post that was last changed then, by an author who is called so now."""
    return f'"{(updated_at - EPOCH) // ONE:x}-{crc32(author.encode()):08x}"'


def versions(if_match: str | None) -> list[datetime] | None:
    """The times that an `If-Match` header allows; None where it allows any.

    A weak tag and one that is not ours match nothing.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    given = [part.strip() for part in if_match[:LONGEST_HEADER].split(",")]
    return [EPOCH + int(match[1], 16) * ONE for part in given if (match := OURS.fullmatch(part))]
