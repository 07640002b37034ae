"""Delivering mail: into a file, and to a real SMTP server."""

import asyncio
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.policy import compat32
from pathlib import Path

import pytest

from devnest.mail import FileTransport, SmtpTransport, compose
from tests.support import read_mbox

MESSAGE = compose("devnest@example.org", "ada@example.org", "Grüße", "Hello Ada,\n\n.a line with a dot\n")
TRICKY = compose("devnest@example.org", "eve@example.org", "Hello", "Hello Eve,\nFrom eve@example.org\n")
REFUSED = ("ada@refused.example", "ada eve@example.org")


class SmtpServer:
    """Takes mail on a free port, in plain text, and keeps it; refuses recipients at `refused.example`.

    It hangs up where it is offered more than so many `messages`.
    """

    def __init__(self, messages: int = 100) -> None:
        self.messages = messages
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
            if word == b"MAIL" and len(self.received) == self.messages:
                break
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


async def test_a_file_gets_every_message(tmp_path: Path) -> None:
    """Readable as a mailbox, by the owner alone; a line that looks like the beginning of the next one is none."""
    path = tmp_path / "mail.mbox"
    assert await FileTransport(path).send([MESSAGE, TRICKY]) == []
    assert await FileTransport(path).send([MESSAGE]) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, tricky, _ = mails = read_mbox(path)
    assert (first["To"], first["Subject"], first["Auto-Submitted"]) == ("ada@example.org", "Grüße", "auto-generated")
    assert first.get_content().splitlines()[0] == "Hello Ada,"
    assert tricky.get_content().splitlines()[1] == ">From eve@example.org"
    assert len(mails) == 3


@pytest.mark.parametrize("subject", ["Hello", "Grüße", "word " * 30 + "end", "x" * 67, "x" * 68, "x" * 69])
def test_a_short_header_is_written_as_any_other(subject: str) -> None:
    """Python's own way is slow, and gives the same."""
    message = compose("devnest@example.org", "ada@example.org", subject, "text")
    assert message.as_bytes() == message.as_bytes(policy=compat32.clone(linesep="\r\n"))


async def test_a_full_file_becomes_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not grow for ever, and several processes that find it full at once rename it once."""
    monkeypatch.setattr("devnest.mail.transports.FILE_BYTES", 2_000)
    path = tmp_path / "mail.mbox"
    for _ in range(10):
        assert await asyncio.gather(*(FileTransport(path).send([MESSAGE]) for _ in range(4))) == [[]] * 4
    newest, old = read_mbox(path), read_mbox(tmp_path / "mail.mbox.old")
    size_bytes = path.stat().st_size // len(newest)
    assert len(old) == -(-2_000 // size_bytes)
    assert len(newest) <= len(old)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mail.mbox", "mail.mbox.old"]


async def test_a_file_that_cannot_be_written_fails_each_message(tmp_path: Path) -> None:
    """Here a link that somebody put there; the outbox tries again."""
    (tmp_path / "mail.mbox").symlink_to(tmp_path / "elsewhere")
    failed = await FileTransport(tmp_path / "mail.mbox").send([MESSAGE, TRICKY])
    assert [message for message, _ in failed] == [MESSAGE, TRICKY]
    assert all(isinstance(error, OSError) for _, error in failed)
    assert not (tmp_path / "elsewhere").exists()


def test_what_was_half_written_is_taken_back(tmp_path: Path) -> None:
    """A full disk leaves no half of a mail: the whole is tried again. Here a limit on the size of files."""
    path = tmp_path / "mail.mbox"
    path.write_bytes(b"before\n")
    script = (
        "import asyncio, resource, signal, sys; from pathlib import Path; from devnest.mail import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "message = compose('devnest@example.org', 'ada@example.org', 'Hello', 'text')\n"
        "((_, error),) = asyncio.run(FileTransport(Path(sys.argv[1])).send([message])); assert error.errno == 27\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.read_bytes() == b"before\n"


async def test_a_server_gets_the_message() -> None:
    """As it was composed."""
    server = SmtpServer()
    async with server.running() as url:
        assert await SmtpTransport(url).send([MESSAGE]) == []
    mail = message_from_bytes(server.received[0].replace(b"\r\n..", b"\r\n."), policy=policy.SMTP)
    assert mail["To"] == "ada@example.org"
    assert ".a line with a dot" in mail.get_content()


async def test_tls_is_never_given_up() -> None:
    """A server without STARTTLS gets nothing."""
    server = SmtpServer()
    async with server.running() as url:
        failed = await SmtpTransport(url.replace("smtp:", "smtp+starttls:")).send([MESSAGE, TRICKY])
    assert [message for message, _ in failed] == [MESSAGE, TRICKY]
    assert server.received == []


async def test_several_messages_share_a_connection() -> None:
    """One that is refused, or cannot be said, is not the next one's trouble."""
    server = SmtpServer()
    refused, unsayable = (compose("devnest@example.org", to, "Hello", "text") for to in REFUSED)
    async with server.running() as url:
        failed = await SmtpTransport(url).send([MESSAGE, refused, unsayable, TRICKY])
    assert [message for message, _ in failed] == [refused, unsayable]
    assert len(server.received) == 2
    assert len(server.connections) == 1


async def test_a_connection_that_is_lost_fails_what_follows() -> None:
    """What was taken before is not sent again."""
    server = SmtpServer(messages=1)
    async with server.running() as url:
        failed = await SmtpTransport(url).send([MESSAGE, TRICKY, TRICKY])
    assert [message for message, _ in failed] == [TRICKY, TRICKY]
    assert len(server.received) == 1


async def test_nobody_listens() -> None:
    """Each message has failed."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ((message, error),) = await SmtpTransport(f"smtp://127.0.0.1:{unused.getsockname()[1]}").send([MESSAGE])
    assert message is MESSAGE
    assert isinstance(error, OSError)


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
