"""The `traceparent` header of W3C Trace Context, by which a caller's trace goes on here."""

import re
from typing import NamedTuple

__all__ = ["Parent", "parse_traceparent"]

# Version, trace id, parent id, flags. A later version may add fields (W3C Trace Context, 4.3).
TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
MAX_BYTES = 256  # version 00 has 55
SAMPLED = 1


class Parent(NamedTuple):
    """What a caller says of its trace.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        is_sampled: Whether the caller records the trace.
    """

    trace_id: str
    span_id: str
    is_sampled: bool


def parse_traceparent(value: bytes) -> Parent | None:
    """Return what the header says, or None if it is malformed and therefore to be ignored."""
    match = TRACEPARENT.fullmatch(value) if len(value) <= MAX_BYTES else None
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    return Parent(match[2].decode(), match[3].decode(), bool(int(match[4], 16) & SAMPLED))
