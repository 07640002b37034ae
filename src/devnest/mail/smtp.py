"""What is said to an SMTP server of this machine, and what of its replies may go into a log."""

import asyncio
import re
import socket
from base64 import b64encode
from collections.abc import Iterable
from email.message import Message

from devnest.addresses import canonical

__all__ = [
    "helo_name",
    "is_final",
    "keeps_in_step",
    "own_name",
    "reply_of",
    "said_of",
    "secrets_of",
]

MAX_NAME_CHARS = 253  # of a domain (RFC 1035, 2.3.4), without the dot at its end
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

MAX_REPLY_CHARS = 300  # of a reply in the log; servers explain themselves in a line or two
ADDRESS = re.compile(r"\S+@\S+")
WORD = re.compile(r"[A-Za-z0-9_-]+")
MIN_SECRET_CHARS = 20  # a word of a mail that may be a code: those have 43
MIN_QUOTE_CHARS = 5  # of a secret: less of it helps nobody to guess the rest
MAX_WORD_CHARS = 24  # of a reply: what is longer may be a secret in another spelling
TELLING_CHARS = 8  # of a secret in a row, whatever stands between them


async def own_name(local_address: str) -> str:
    """What this machine calls itself to a mail server that it speaks to from `local_address`."""
    try:
        name = await asyncio.to_thread(socket.getfqdn)
    except (
        OSError,
        UnicodeError,
    ):  # UnicodeError: an empty label, or one of more than 63 characters
        name = ""
    return helo_name(name, local_address)


def helo_name(name: str, local_address: str) -> str:
    """The argument of EHLO: this machine's domain name, where it has one, or else its address (RFC 5321, 4.1.3, 4.1.4).

    A name of one label is no name to another machine, and many servers refuse it.
    """
    labels = name.removesuffix(".").split(".")
    is_domain = (
        len(labels) > 1 and len(name) <= MAX_NAME_CHARS and all(map(LABEL.fullmatch, labels))
    )
    if is_domain and not labels[-1].isdigit():  # that would be an address
        return ".".join(labels)
    address = canonical(local_address) or local_address
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def is_final(error: Exception) -> bool:
    """Whether what a server, or its client, said of a message will be the same at another time (RFC 5321, 4.2.1)."""
    from aiosmtplib import SMTPResponseException

    error = _of_one(error)
    if isinstance(error, SMTPResponseException):
        return error.code // 100 == 5
    return isinstance(error, ValueError)  # an address that cannot be said


def keeps_in_step(error: Exception) -> bool:
    """Whether the connection is good for another mail after this one: the server refused it in so many words, or
    nothing was said. After garbage or silence the next reply may be to something else."""
    from aiosmtplib import SMTPResponseException

    error = _of_one(error)
    if isinstance(error, SMTPResponseException):
        return error.code // 100 in (4, 5)
    return isinstance(error, ValueError)


def _of_one(error: Exception) -> Exception:
    """What was said of the recipient: each of our mails has one."""
    from aiosmtplib import SMTPRecipientsRefused

    return error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error


def reply_of(error: Exception, *secrets: str) -> str:
    """What a server said, or what happened instead, in one line without addresses and without any secret."""
    from aiosmtplib import SMTPException, SMTPResponseException

    error = _of_one(error)
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {_scrubbed(error.message, secrets)}".strip()
    said = error.message if isinstance(error, SMTPException) else str(error)
    return f"{type(error).__name__}: {_scrubbed(said, secrets)}"


def said_of(username: str, password: str) -> list[str]:
    """What the commands that log in hold of a password (`AUTH PLAIN`, RFC 4616, and `AUTH LOGIN`), longest first."""
    return [
        *(b64encode(text.encode()).decode() for text in (f"\0{username}\0{password}", password)),
        password,
    ]


def secrets_of(message: Message) -> list[str]:
    """What of a mail must not come back: the words that may be codes, and the rest that is as long."""
    text = message.get_payload(decode=True)
    words = WORD.findall(text.decode(errors="replace")) if isinstance(text, bytes) else []
    return [word for word in words if len(word) >= MIN_SECRET_CHARS]


def _scrubbed(text: str, secrets: Iterable[str]) -> str:
    """A text without what it quotes of the secrets, in any case, cut or in pieces."""
    folded = [secret.lower() for secret in secrets]

    def harmless(word: re.Match[str]) -> str:
        return "…" if len(word[0]) > MAX_WORD_CHARS or _quotes(word[0].lower(), folded) else word[0]

    text = " ".join(
        "".join(character if character.isprintable() else " " for character in text).split()
    )
    for secret in secrets:
        text = text.replace(secret, "…")  # one with signs in it is no word
    text = ADDRESS.sub("<address>", text)
    text = WORD.sub(harmless, text)[:MAX_REPLY_CHARS]
    squeezed = "".join(WORD.findall(text)).lower()
    return "(it quotes the mail)" if any(_tells(squeezed, secret) for secret in folded) else text


def _quotes(word: str, secrets: Iterable[str]) -> bool:
    return len(word) >= MIN_QUOTE_CHARS and any(
        word in secret or secret in word for secret in secrets
    )


def _tells(text: str, secret: str) -> bool:
    return any(
        secret[at : at + TELLING_CHARS] in text for at in range(len(secret) - TELLING_CHARS + 1)
    )
