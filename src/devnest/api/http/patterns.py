"""The patterns that text fields must match, and their description for error messages."""

__all__ = ["CURSOR", "EMAIL", "LIMIT", "LINE", "NAME", "TAG", "TEXT", "describe_patterns"]

END = "(?![\\s\\S])"  # the end of the text; `$` also matches before a line feed at the end
NAME = f"^[A-Za-z0-9][A-Za-z0-9_-]*{END}"
TAG = f"^[a-z0-9][a-z0-9.+#-]*{END}"
# HTML's definition of a valid e-mail address, and a dot in the domain. Only a mail that arrives
# proves that an address exists.
# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = f"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{LABEL}(?:\\.{LABEL})+{END}"
LINE = f"^[^\\x00-\\x1f\\x7f]+{END}"
TEXT = f"^[^\\x00]+{END}"
# The 16 bytes of a UUID in base64url without padding. The last of the 22 characters has 2 bits.
CURSOR = f"^[A-Za-z0-9_-]{{21}}[AQgw]{END}"
LIMIT = f"^(?:[1-9][0-9]?|100){END}"

DESCRIPTIONS = {
    NAME: "letters, digits, - and _, with a letter or a digit first",
    TAG: "lower-case letters, digits, . + # and -, with a letter or a digit first",
    EMAIL: "an e-mail address",
    LINE: "text without control characters",
    TEXT: "text without NUL characters",
    CURSOR: "the `next_cursor` of a page",
    LIMIT: "a whole number from 1 to 100",
}


def describe_patterns(message: str) -> str:
    """Replace the patterns in an error message with their descriptions.

    Args:
        message: A message of msgspec about a text that does not match.
    """
    for pattern, description in DESCRIPTIONS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", description)
    return message
