"""The form in which usernames and e-mail addresses are compared, under every collation."""

from string import ascii_lowercase, ascii_uppercase

__all__ = ["folded"]

FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


def folded(identifier: str) -> str:
    """Return the form of a username or an address that two accounts cannot share.

    A to Z become a to z and nothing else changes, so the rules of no language apply: in Turkish,
    `I` is not the capital of `i`. This equals PostgreSQL's `lower()` for columns of collation "C",
    which all columns of identifiers have (revision 0008). Statements compare `lower(column)` with a
    folded argument.
    """
    return identifier.translate(FOLD)
