"""Composes messages and delivers them: to an SMTP server, or into a file."""

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from email.generator import BytesGenerator
from email.message import Message
from email.mime.text import MIMEText
from email.policy import Compat32
from email.utils import formatdate, make_msgid
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from devnest.mail.smtp import (
    can_go_on,
    is_final,
    local_name,
    login_secrets,
    message_secrets,
    reason_of,
)
from devnest.urls import BadUrl, parse_url

if TYPE_CHECKING:
    from aiosmtplib import SMTP

__all__ = ["Failure", "FileTransport", "SmtpTransport", "Transport", "compose"]

# Bounds each step of a connection to the mail server: connecting, and each command.
SMTP_TIMEOUT_S = 30
# A file that has reached this size is renamed before the next mail is appended.
MAX_FILE_BYTES = 1 << 20
# For a URL without a port.
DEFAULT_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class _Plain(Compat32):
    """Python's policy, without the search for places to fold a header that is short enough."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        if isinstance(value, str) and value.isascii() and len(name) + len(value) < 76:
            return f"{name}: {value}{self.linesep}".encode()
        return super().fold_binary(name, value)


POLICY = _Plain(linesep="\r\n")
MBOX_POLICY = _Plain(linesep="\n")


def compose(sender: str, recipient: str, subject: str, text: str) -> Message:
    """Make a message of plain text.

    It uses Python's older classes, because `EmailMessage` parses every header it is given, which is
    slow.

    Args:
        sender: The address the mail comes from.
        recipient: The address it goes to.
        subject: The subject, one line.
        text: The body.

    Raises:
        ValueError: An address or the subject is not one line.
    """
    message = MIMEText(text, "plain", "us-ascii" if text.isascii() else "utf-8", policy=POLICY)
    headers = {
        "From": sender,
        "To": recipient,
        "Subject": subject,
        "Date": formatdate(),
        "Message-ID": make_msgid(domain=sender.rpartition("@")[2]),
        "Auto-Submitted": "auto-generated",  # RFC 3834: prevents out-of-office replies
    }
    for name, value in headers.items():
        if value.splitlines() != [value]:
            raise ValueError(f"the {name} of a mail is not one line")
        message[name] = value
    return message


class Failure(NamedTuple):
    """A message that was not delivered.

    Attributes:
        message: The message.
        reason: Why, in one line that may be logged.
        is_final: Whether another try would fail too.
    """

    message: Message
    reason: str
    is_final: bool = False


class Transport(Protocol):
    """Delivers messages."""

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Deliver messages, and return those that could not be delivered."""
        ...


class FileTransport:
    """Appends messages to an mbox file (RFC 4155).

    Only its owner can read it. When it has reached 1 MiB it is renamed to `….old`, which replaces
    the last file of that name. Several processes may append to it. A file for each mail would cost
    the file system more than all other work of a registration.

    Args:
        path: The file, which is made when it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Append all messages or, if the file cannot be written, none."""
        try:
            await asyncio.to_thread(self._append, b"".join(map(_entry, messages)))
        except OSError as error:
            return [Failure(message, str(error)) for message in messages]
        return []

    def _append(self, entries: bytes) -> None:
        while True:
            file = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # other servers append to it too
                size_bytes = os.fstat(file).st_size
                if size_bytes < MAX_FILE_BYTES:
                    _write_whole(file, entries, size_bytes)
                    return
                self._set_aside(file)
            finally:
                os.close(file)

    def _set_aside(self, file: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process has just renamed it
            if os.path.samestat(os.fstat(file), self._path.stat()):
                self._path.rename(self._path.with_name(self._path.name + ".old"))


def _entry(message: Message) -> bytes:
    entry = BytesIO()
    BytesGenerator(entry, mangle_from_=True, policy=MBOX_POLICY).flatten(message, unixfrom=True)
    return entry.getvalue() + b"\n"


def _write_whole(file: int, content: bytes, size_bytes: int) -> None:
    try:
        with memoryview(content) as rest:
            written = 0
            while written < len(rest):
                written += os.write(file, rest[written:])
    except OSError:
        os.ftruncate(file, size_bytes)
        raise


class SmtpTransport:
    """Sends messages through one SMTP server.

    Args:
        url: `smtps://` and `smtp+starttls://` use TLS and never go on without it; `smtp://` uses
            none. `user:password@` before the host logs in, which needs TLS.

    Raises:
        BadUrl: The URL has another form.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url, tuple(DEFAULT_PORTS))
        if len(parsed.hosts) != 1 or parsed.path not in ("", "/") or parsed.options:
            raise BadUrl(
                "it must be like smtp+starttls://user:password@host:587, with one host and no path"
            )
        if parsed.username and parsed.scheme == "smtp":
            raise BadUrl("a password is not sent without TLS: use smtp+starttls:// or smtps://")
        self._host = parsed.hosts[0].name
        self._port = parsed.hosts[0].port or DEFAULT_PORTS[parsed.scheme]
        self._scheme = parsed.scheme
        self._username = parsed.username
        self._password = parsed.password
        self._secrets = (
            login_secrets(parsed.username or "", parsed.password) if parsed.password else []
        )

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Send messages one after another, through one connection as long as it lasts."""
        failed: list[Failure] = []
        rest = deque(messages)
        try:
            while rest:
                async with self._connect() as server:
                    await self._hand_over(server, rest, failed)
        except (
            Exception
        ) as error:  # connecting failed, so no mail is at fault: all can be tried again
            failed += [Failure(message, reason_of(error, *self._secrets)) for message in rest]
        return failed

    async def _hand_over(self, server: "SMTP", rest: deque[Message], failed: list[Failure]) -> None:
        """Send mails through one connection until it breaks, and remove them from `rest`.

        If the first mail of a connection breaks it, that mail has failed. If a later one does, the
        server may only limit the mails of a connection, so that mail stays in `rest` for the next.
        """
        has_taken = False
        while rest:
            try:
                await server.send_message(rest[0])
                has_taken = True
            except Exception as error:
                if not can_go_on(error):
                    server.close()
                if has_taken and not server.is_connected:
                    return
                reason = reason_of(error, *message_secrets(rest[0]), *self._secrets)
                failed.append(Failure(rest[0], reason, is_final(error)))
            rest.popleft()
            if not server.is_connected:
                return

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator["SMTP"]:
        """Connect, negotiate TLS, greet the server with EHLO or HELO, and log in."""
        import aiosmtplib  # here, because it slows down the start of a server

        server = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, use_tls=self._scheme == "smtps", start_tls=False,
            local_hostname="localhost", timeout=SMTP_TIMEOUT_S,
        )  # fmt: skip
        async with server:
            # The local address is known only now. Without the name given above, the client would
            # have looked one up itself, on the event loop.
            server.local_hostname = await local_name(server.get_transport_info("sockname")[0])
            if self._scheme == "smtp+starttls":
                await server.starttls()
            try:
                await server.ehlo()
            except aiosmtplib.SMTPHeloError:
                if not server.is_connected:
                    raise
                await server.helo()
            if self._username is not None:
                await server.login(self._username, self._password or "")
            yield server
