"""Chooses the name for EHLO, interprets an SMTP server's replies, and redacts them for the log.

A server may quote the mail or the password in its reply. Both are secrets: a mail contains a code
that signs somebody in. So a reply goes into the log without addresses, and without anything that
could be a part of a secret, however it is encoded or cut.
"""

import asyncio
import re
import socket
from base64 import b64encode
from collections.abc import Iterable
from email.message import Message

from devnest.addresses import canonical

__all__ = [
    "can_go_on",
    "helo_name",
    "is_final",
    "local_name",
    "login_secrets",
    "message_secrets",
    "reason_of",
]

# A domain's length (RFC 1035, 2.3.4), without the dot at its end.
MAX_NAME_CHARS = 253
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

# Bounds a reply in the log; servers explain themselves in a line or two.
MAX_REPLY_CHARS = 300
ADDRESS = re.compile(r"\S+@\S+")
WORD = re.compile(r"[A-Za-z0-9_-]+")
# A word of a mail that has this many characters may be a code; codes have 43.
MIN_SECRET_CHARS = 20
# A word of a reply is redacted if it is a part of a secret and has this many characters. Fewer do
# not help to guess the rest.
MIN_QUOTE_CHARS = 5
# A longer word of a reply is redacted always: it may be a secret in another encoding.
MAX_WORD_CHARS = 24
# A reply is hidden in full if it contains this many consecutive characters of a secret, even if
# other characters separate them.
MIN_LEAK_CHARS = 8


async def local_name(local_address: str) -> str:
    """Return this machine's name for EHLO; looks it up in a thread, since that can take seconds.

    Args:
        local_address: The connection's local IP address, for a machine without a domain name.
    """
    try:
        name = await asyncio.to_thread(socket.getfqdn)
    except (OSError, UnicodeError):  # UnicodeError: a label that is empty or too long
        name = ""
    return helo_name(name, local_address)


def helo_name(name: str, local_address: str) -> str:
    """Return the argument of EHLO: a domain name, or else an address (RFC 5321, 4.1.3, 4.1.4).

    Args:
        name: This machine's name. One of a single label, such as `localhost`, is not used: it
            means nothing to another machine, and many servers refuse it.
        local_address: The IP address to use instead.
    """
    labels = name.removesuffix(".").split(".")
    is_domain = (
        len(labels) > 1 and len(name) <= MAX_NAME_CHARS and all(map(LABEL.fullmatch, labels))
    )
    if is_domain and not labels[-1].isdigit():  # a last label of digits makes it an IP address
        return ".".join(labels)
    address = canonical(local_address) or local_address
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def is_final(error: Exception) -> bool:
    """Return whether a message will be refused again: a 5xx reply, or an invalid address.

    See RFC 5321, 4.2.1.
    """
    from aiosmtplib import SMTPResponseException

    error = _recipient_error(error)
    if isinstance(error, SMTPResponseException):
        return error.code // 100 == 5
    return isinstance(error, ValueError)  # an address that SMTP cannot express


def can_go_on(error: Exception) -> bool:
    """Return whether the connection can take another mail after this error.

    It can if the server refused the mail by a 4xx or 5xx reply, or if nothing was sent. After an
    unreadable reply or none, the next reply may belong to an earlier command.
    """
    from aiosmtplib import SMTPResponseException

    error = _recipient_error(error)
    if isinstance(error, SMTPResponseException):
        return error.code // 100 in (4, 5)
    return isinstance(error, ValueError)


def _recipient_error(error: Exception) -> Exception:
    """Return the error of the recipient; each of our mails has exactly one."""
    from aiosmtplib import SMTPRecipientsRefused

    return error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error


def reason_of(error: Exception, *secrets: str) -> str:
    """Return the server's reply, or what happened instead, in one line that may be logged.

    Args:
        error: What the SMTP client raised.
        secrets: What must not appear in the line, longest first.
    """
    from aiosmtplib import SMTPException, SMTPResponseException

    error = _recipient_error(error)
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {_redacted(error.message, secrets)}".strip()
    text = error.message if isinstance(error, SMTPException) else str(error)
    return f"{type(error).__name__}: {_redacted(text, secrets)}"


def login_secrets(username: str, password: str) -> list[str]:
    """Return a password as it is sent by `AUTH PLAIN` (RFC 4616) and `AUTH LOGIN`, and as it is.

    The longest comes first.
    """
    return [
        *(b64encode(text.encode()).decode() for text in (f"\0{username}\0{password}", password)),
        password,
    ]


def message_secrets(message: Message) -> list[str]:
    """Return the words of a mail that are as long as a code, and so may be one."""
    text = message.get_payload(decode=True)
    words = WORD.findall(text.decode(errors="replace")) if isinstance(text, bytes) else []
    return [word for word in words if len(word) >= MIN_SECRET_CHARS]


def _redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a text in one line without what it quotes of the secrets."""
    folded = [secret.lower() for secret in secrets]

    def harmless(word: re.Match[str]) -> str:
        is_long = len(word[0]) > MAX_WORD_CHARS
        return "…" if is_long or _is_quote(word[0].lower(), folded) else word[0]

    text = " ".join(
        "".join(character if character.isprintable() else " " for character in text).split()
    )
    for secret in secrets:
        text = text.replace(secret, "…")  # a secret with punctuation is not one WORD
    text = ADDRESS.sub("<address>", text)
    text = WORD.sub(harmless, text)[:MAX_REPLY_CHARS]
    joined = "".join(WORD.findall(text)).lower()
    return "(it quotes the mail)" if any(_leaks(joined, secret) for secret in folded) else text


def _is_quote(word: str, secrets: Iterable[str]) -> bool:
    return len(word) >= MIN_QUOTE_CHARS and any(
        word in secret or secret in word for secret in secrets
    )


def _leaks(text: str, secret: str) -> bool:
    return any(
        secret[at : at + MIN_LEAK_CHARS] in text for at in range(len(secret) - MIN_LEAK_CHARS + 1)
    )
