"""What texts may look like: the patterns, and the words that an error has in place of each."""

__all__ = ["CURSOR", "EMAIL", "LIMIT", "LINE", "NAME", "TAG", "TEXT", "in_words"]

END = "(?![\\s\\S])"  # `$` would let a line feed follow
NAME = f"^[A-Za-z0-9][A-Za-z0-9_-]*{END}"
TAG = f"^[a-z0-9][a-z0-9.+#-]*{END}"
# What HTML calls a valid e-mail address, with a dot in the domain; a mail to it is the only real test.
# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = f"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{LABEL}(?:\\.{LABEL})+{END}"
LINE = f"^[^\\x00-\\x1f\\x7f]+{END}"
TEXT = f"^[^\\x00]+{END}"
# The 16 bytes of a UUID in base64url without padding: the last of 22 characters carries 2 bits.
CURSOR = f"^[A-Za-z0-9_-]{{21}}[AQgw]{END}"
LIMIT = f"^(?:[1-9][0-9]?|100){END}"

WORDS = {
    NAME: "letters, digits, - and _, with a letter or a digit first",
    TAG: "small letters, digits, . + # and -, with a letter or a digit first",
    EMAIL: "an e-mail address",
    LINE: "text without control characters",
    TEXT: "text without NUL characters",
    CURSOR: "the `next_cursor` of a page",
    LIMIT: "a whole number from 1 to 100",
}


def in_words(message: str) -> str:
    """What msgspec says of a text that does not match, without the pattern."""
    for pattern, words in WORDS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", words)
    return message
