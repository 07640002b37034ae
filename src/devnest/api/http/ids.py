"""Ids in paths, which have exactly one spelling, so that caches, logs and keys can compare them."""

from uuid import UUID

__all__ = ["canonical_id"]


def canonical_id(text: str) -> UUID:
    """Read an id in the form that responses use.

    `UUID` alone also accepts capitals, braces, `urn:uuid:`, misplaced hyphens, underscores, and
    the digits of other scripts.

    Args:
        text: 32 lower-case hexadecimal digits in five groups.

    Raises:
        ValueError: The text has another form.
    """
    found = UUID(text)
    if str(found) != text:
        raise ValueError(text)
    return found
