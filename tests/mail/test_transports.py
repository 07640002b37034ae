"""Delivering mail: into a folder, and to a real SMTP server."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from devnest.mail import FolderTransport, MailRefused, SmtpTransport, compose

MESSAGE = compose("devnest@example.org", "ada@example.org", "Grüße", "Hello Ada,\n\n.a line with a dot\n")


class SmtpServer:
    """Takes mail on a free port, in plain text, and keeps it; refuses recipients at `refused.example`."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.port = 0
        self.connections: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self.connections.append(connection)
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                writer.write(b"354 go\r\n")
                self.received.append((await reader.readuntil(b"\r\n.\r\n"))[:-3])
            if word == b"RCPT" and b"@refused.example" in line:
                writer.write(b"550 no such box\r\n")
                continue
            writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                break
        writer.close()
        await writer.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its URL, while it runs."""
        async with await asyncio.start_server(self.serve, "127.0.0.1") as server:
            self.port = server.sockets[0].getsockname()[1]
            yield f"smtp://127.0.0.1:{self.port}"
            await asyncio.wait(self.connections)


async def test_a_folder_gets_one_private_file_for_each_message(tmp_path: Path) -> None:
    """Readable as mail, by the owner alone."""
    folder = tmp_path / "mail"
    await FolderTransport(folder).send(MESSAGE)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    mail = message_from_bytes(path.read_bytes(), policy=policy.SMTP)
    assert (mail["To"], mail["Subject"], mail["Auto-Submitted"]) == ("ada@example.org", "Grüße", "auto-generated")
    assert mail.get_content().splitlines()[0] == "Hello Ada,"


async def test_a_folder_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow for ever."""
    monkeypatch.setattr("devnest.mail.transports.KEPT_FILES", 5)
    transport = FolderTransport(tmp_path)
    for _ in range(101):
        await transport.send(MESSAGE)
    assert len(sorted(tmp_path.iterdir())) == 5


async def test_a_server_gets_the_message() -> None:
    """As it was composed."""
    server = SmtpServer()
    async with server.running() as url:
        await SmtpTransport(url).send(MESSAGE)
    mail = message_from_bytes(server.received[0].replace(b"\r\n..", b"\r\n."), policy=policy.SMTP)
    assert mail["To"] == "ada@example.org"
    assert ".a line with a dot" in mail.get_content()


async def test_tls_is_never_given_up() -> None:
    """A server without STARTTLS gets nothing."""
    server = SmtpServer()
    async with server.running() as url:
        with pytest.raises(MailRefused):
            await SmtpTransport(url.replace("smtp:", "smtp+starttls:")).send(MESSAGE)
    assert server.received == []


@pytest.mark.parametrize("url", ["http://host", "smtp://", "mail.example.org", "smtp://user:secret@host", "smtp://h:x"])
def test_a_wrong_url_is_refused(url: str) -> None:
    """At the start, and without quoting it: it may hold a password."""
    with pytest.raises(ValueError, match=r".") as caught:
        SmtpTransport(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("end", ["\nBcc: eve@example.org", "\n", "\r", "\r\n\r\ntext", "\x0bBcc: eve@example.org"])
def test_no_header_can_be_smuggled_in(end: str) -> None:
    """A line feed in an address or a subject is an error, not a header."""
    with pytest.raises(ValueError, match="To"):
        compose("devnest@example.org", "ada@example.org" + end, "Hello", "text")
    with pytest.raises(ValueError, match="Subject"):
        compose("devnest@example.org", "ada@example.org", "Hello" + end, "text")
