"""The one form in which usernames and e-mail addresses are compared, whatever the database's collation is."""

from string import ascii_lowercase, ascii_uppercase

__all__ = ["folded"]

FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


def folded(identifier: str) -> str:
    """The form of a username or an e-mail address that two accounts cannot share: A to Z become a to z.

    Nothing else changes, so no language's rules take part: in Turkish, `I` is not the capital of `i`. It is what
    `lower()` does in PostgreSQL to a text of collation "C", which all columns of identifiers have (revision 0008):
    statements compare `lower(column)` with an argument that went through here.
    """
    return identifier.translate(FOLD)
