"""Where mail goes: to an SMTP server, or into a folder of `.eml` files."""

import asyncio
import os
from email.message import Message
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from uuid_utils.compat import uuid7

__all__ = ["FolderTransport", "MailRefused", "SmtpTransport", "Transport", "compose"]

SMTP_TIMEOUT_S = 30
KEPT_FILES = 1_000
POLICY = compat32.clone(linesep="\r\n")
SCHEMES = ("smtp", "smtp+starttls", "smtps")


def compose(sender: str, recipient: str, subject: str, text: str) -> Message:
    """A message of plain text. Raises ValueError for an address or a subject that is not one line.

    Python's older classes: those of `EmailMessage` parse every header they are given, a millisecond for a mail.
    """
    message = MIMEText(text, "plain", "us-ascii" if text.isascii() else "utf-8", policy=POLICY)
    headers = {
        "From": sender,
        "To": recipient,
        "Subject": subject,
        "Date": formatdate(),
        "Message-ID": make_msgid(domain=sender.rpartition("@")[2]),
        "Auto-Submitted": "auto-generated",  # RFC 3834: no out-of-office answers
    }
    for name, value in headers.items():
        if value.splitlines() != [value]:
            raise ValueError(f"the {name} of a mail is not one line")
        message[name] = value
    return message


class MailRefused(Exception):
    """A mail server did not take a message."""


class Transport(Protocol):
    """What delivers a message, or raises OSError or `MailRefused`."""

    async def send(self, message: Message) -> None: ...


class FolderTransport:
    """Writes each message to a file of its own that its owner alone can read; the newest thousand are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0

    async def send(self, message: Message) -> None:
        """Write the file, whole or not at all."""
        await asyncio.to_thread(self._write, bytes(message))

    def _write(self, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{uuid7()}.eml"
        unfinished = path.with_suffix(".new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        unfinished.rename(path)
        self._written += 1
        if self._written % 100 == 1:
            for old in sorted(self._folder.glob("*.eml"))[:-KEPT_FILES]:  # names are in the order of time
                old.unlink(missing_ok=True)


class SmtpTransport:
    """Sends through one server: `smtps://` (TLS), `smtp+starttls://` (TLS or nothing) or `smtp://` (no TLS).

    `user:password@` in the URL logs in, which needs one of the first two. Raises ValueError for any other URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("a URL is needed like smtp+starttls://user:password@host:587, smtps:// or smtp://")
        if parts.username and parts.scheme == "smtp":
            raise ValueError("a password is not sent without TLS: use smtp+starttls:// or smtps://")
        self._host = parts.hostname
        self._port = parts.port or {"smtp": 25, "smtp+starttls": 587, "smtps": 465}[parts.scheme]
        self._scheme = parts.scheme
        self._username = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, message: Message) -> None:
        """Hand the message over."""
        import aiosmtplib  # only who sends by SMTP waits for it

        try:
            await aiosmtplib.send(
                message, hostname=self._host, port=self._port, username=self._username, password=self._password,
                use_tls=self._scheme == "smtps", start_tls=self._scheme == "smtp+starttls", timeout=SMTP_TIMEOUT_S,
            )  # fmt: skip
        except aiosmtplib.SMTPException as error:
            raise MailRefused(str(error)) from error
