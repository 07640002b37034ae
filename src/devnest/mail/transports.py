"""Where mail goes: to an SMTP server, or into a file."""

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

from devnest.mail.smtp import is_final, keeps_in_step, own_name, reply_of, said_of, secrets_of
from devnest.urls import BadUrl, parse_url

if TYPE_CHECKING:
    from aiosmtplib import SMTP

__all__ = ["Failure", "FileTransport", "SmtpTransport", "Transport", "compose"]

SMTP_TIMEOUT_S = 30
FILE_BYTES = 1 << 20
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}  # where the URL has none


class _Plain(Compat32):
    """Python's policy, which searches each header for places to fold it; of a short one there is nothing to fold."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        if isinstance(value, str) and value.isascii() and len(name) + len(value) < 76:
            return f"{name}: {value}{self.linesep}".encode()
        return super().fold_binary(name, value)


POLICY = _Plain(linesep="\r\n")
MBOX_POLICY = _Plain(linesep="\n")


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


class Failure(NamedTuple):
    """A message that was not delivered, and why. `is_final`: it never will be."""

    message: Message
    reason: str
    is_final: bool = False


class Transport(Protocol):
    """What delivers messages; the result is those that it could not, each with its reason."""

    async def send(self, messages: Sequence[Message]) -> list[Failure]: ...


class FileTransport:
    """Appends messages to an mbox file (RFC 4155).

    Its owner alone can read it. Where it has 1 MiB it is renamed to `….old`, in place of the last one of that name. One
    file, because making a file for each mail cost the file system more than everything else a registration does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Append them all, or none."""
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
                fcntl.flock(file, fcntl.LOCK_EX)  # the other servers append too
                size_bytes = os.fstat(file).st_size
                if size_bytes < FILE_BYTES:
                    _write_whole(file, entries, size_bytes)
                    return
                self._set_aside(file)
            finally:
                os.close(file)

    def _set_aside(self, file: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # another has just renamed it
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
    """Sends through one server: `smtps://` (TLS), `smtp+starttls://` (TLS or nothing) or `smtp://` (no TLS).

    `user:password@` in the URL logs in, which needs one of the first two. Raises `BadUrl` for any other URL.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url, tuple(PORTS))
        if len(parsed.hosts) != 1 or parsed.path not in ("", "/") or parsed.options:
            raise BadUrl(
                "it is not like smtp+starttls://user:password@host:587, with one host and nothing behind it"
            )
        if parsed.username and parsed.scheme == "smtp":
            raise BadUrl("a password is not sent without TLS: use smtp+starttls:// or smtps://")
        self._host = parsed.hosts[0].name
        self._port = parsed.hosts[0].port or PORTS[parsed.scheme]
        self._scheme = parsed.scheme
        self._username = parsed.username
        self._password = parsed.password
        self._secrets = said_of(parsed.username or "", parsed.password) if parsed.password else []

    async def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Hand them over, one after another, through one connection while that lasts."""
        failed: list[Failure] = []
        rest = deque(messages)
        try:
            while rest:
                async with self._connect() as server:
                    await self._hand_over(server, rest, failed)
        except (
            Exception
        ) as error:  # it says nothing about a mail: whatever it is, somebody can mend it
            failed += [Failure(message, reply_of(error, *self._secrets)) for message in rest]
        return failed

    async def _hand_over(self, server: "SMTP", rest: deque[Message], failed: list[Failure]) -> None:
        """Take from `rest` what this connection is good for: one mail at least.

        A server may hang up at one mail, and that is not the next one's trouble. It may also hang up because it takes
        only so many of a connection: then the mail that comes after those has a connection of its own.
        """
        has_taken = False
        while rest:
            try:
                await server.send_message(rest[0])
                has_taken = True
            except Exception as error:
                if not keeps_in_step(error):
                    server.close()
                if has_taken and not server.is_connected:
                    return
                reason = reply_of(error, *secrets_of(rest[0]), *self._secrets)
                failed.append(Failure(rest[0], reason, is_final(error)))
            rest.popleft()
            if not server.is_connected:
                return

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator["SMTP"]:
        """A connection that has said who it is: `EHLO`, TLS and the password, in that order."""
        import aiosmtplib  # only who sends by SMTP waits for it

        server = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, use_tls=self._scheme == "smtps", start_tls=False,
            local_hostname="localhost", timeout=SMTP_TIMEOUT_S,
        )  # fmt: skip
        async with server:
            # Its address is known only now. Without a name above, the client would have looked for one by itself.
            server.local_hostname = await own_name(server.get_transport_info("sockname")[0])
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
