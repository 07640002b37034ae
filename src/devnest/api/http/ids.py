"""Ids in paths, in their one spelling: what looks different is something else, to caches, keys and logs too."""

from uuid import UUID

__all__ = ["canonical_id"]


def canonical_id(text: str) -> UUID:
    """Read an id as answers have it, 32 small hexadecimal digits in five groups; raises `ValueError` for other forms.

    `UUID` itself also takes capitals, braces, `urn:uuid:`, hyphens anywhere, underscores, and digits of other scripts.
    """
    found = UUID(text)
    if str(found) != text:
        raise ValueError(text)
    return found
