"""Delivering mail: into a file, and to a real SMTP server."""

import asyncio
import re
import socket
import ssl
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

MESSAGE = compose(
    "devnest@example.org", "ada@example.org", "Grüße", "Hello Ada,\n\n.a line with a dot\n"
)
TRICKY = compose(
    "devnest@example.org", "eve@example.org", "Hello", "Hello Eve,\nFrom eve@example.org\n"
)
CERTIFICATE = Path(__file__).parents[1] / "load" / "certificate.pem"
HELO = re.compile(rb"(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|\[[0-9.]+\]|\[IPv6:[0-9a-f:]+\]")
REFUSED = ("ada@refused.example", "ada eve@example.org")


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class SmtpServer:
    """Takes mail on a free port, in plain text, and keeps it.

    It hangs up where it is offered more than so many `messages`, or more than so many `together` on
    a connection. `answers` are its replies to commands, in place of the usual ones, and `at` those
    to recipients at a domain; with nothing for a reply it hangs up. Like many servers, it takes no
    name at EHLO that is none.
    """

    def __init__(
        self,
        messages: int = 100,
        answers: dict[bytes, bytes] | None = None,
        together: int = 100,
        at: dict[bytes, bytes] | None = None,
    ) -> None:
        self.messages = messages
        self.together = together
        self.at = {b"refused.example": b"550 no such box"} | (at or {})
        self.answers = answers or {}
        self.received: list[bytes] = []
        self.commands: list[bytes] = []
        self.port = 0
        self.connections: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self.connections.append(connection)
        writer.write(b"220 ready\r\n")
        taken = 0
        while line := await reader.readline():
            word = line[:4].upper().strip()
            self.commands.append(line.strip())
            if word in (b"EHLO", b"HELO") and not HELO.fullmatch(line[5:].strip()):
                writer.write(b"501 5.5.2 that is no name\r\n")
                continue
            if word in self.answers:
                writer.write(self.answers[word] + b"\r\n")
                if word == b"STAR":
                    await writer.start_tls(tls())
                continue
            if word == b"MAIL" and (len(self.received) == self.messages or taken == self.together):
                break
            if word == b"DATA":
                writer.write(b"354 go\r\n")
                message = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                if b"." in self.answers:
                    writer.write(self.answers[b"."] + b"\r\n")
                    continue
                self.received.append(message)
                taken += 1
            domain = line.partition(b"@")[2].partition(b">")[0] if word == b"RCPT" else b""
            reply = self.at.get(domain, b"221 bye" if word == b"QUIT" else b"250 ok")
            writer.write(reply + b"\r\n" if reply else b"")
            if word == b"QUIT" or not reply:
                break
        writer.close()
        await writer.wait_closed()

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Its URL, while it runs."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield f"smtp://127.0.0.1:{self.port}"
            await asyncio.wait(self.connections)


async def test_a_file_gets_every_message(tmp_path: Path) -> None:
    """Readable as a mailbox, by the owner alone.

    A line that looks like the beginning of the next one is none.
    """
    path = tmp_path / "mail.mbox"
    assert await FileTransport(path).send([MESSAGE, TRICKY]) == []
    assert await FileTransport(path).send([MESSAGE]) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, tricky, _ = mails = read_mbox(path)
    assert (first["To"], first["Subject"], first["Auto-Submitted"]) == (
        "ada@example.org",
        "Grüße",
        "auto-generated",
    )
    assert first.get_content().splitlines()[0] == "Hello Ada,"
    assert tricky.get_content().splitlines()[1] == ">From eve@example.org"
    assert len(mails) == 3


@pytest.mark.parametrize(
    "subject", ["Hello", "Grüße", "word " * 30 + "end", "x" * 67, "x" * 68, "x" * 69]
)
def test_a_short_header_is_written_as_any_other(subject: str) -> None:
    """Python's own way is slow, and gives the same."""
    message = compose("devnest@example.org", "ada@example.org", subject, "text")
    assert message.as_bytes() == message.as_bytes(policy=compat32.clone(linesep="\r\n"))


async def test_a_full_file_becomes_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not grow for ever, and several processes that find it full at once rename it once."""
    monkeypatch.setattr("devnest.mail.transports.MAX_FILE_BYTES", 2_000)
    path = tmp_path / "mail.mbox"
    for _ in range(10):
        assert (
            await asyncio.gather(*(FileTransport(path).send([MESSAGE]) for _ in range(4)))
            == [[]] * 4
        )
    newest, old = read_mbox(path), read_mbox(tmp_path / "mail.mbox.old")
    size_bytes = path.stat().st_size // len(newest)
    assert len(old) == -(-2_000 // size_bytes)
    assert len(newest) <= len(old)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mail.mbox", "mail.mbox.old"]


async def test_a_file_that_cannot_be_written_fails_each_message(tmp_path: Path) -> None:
    """Here a link that somebody put there; the outbox tries again."""
    (tmp_path / "mail.mbox").symlink_to(tmp_path / "elsewhere")
    failed = await FileTransport(tmp_path / "mail.mbox").send([MESSAGE, TRICKY])
    assert [(failure.message, failure.is_final) for failure in failed] == [
        (MESSAGE, False),
        (TRICKY, False),
    ]
    assert all(failure.reason for failure in failed)
    assert not (tmp_path / "elsewhere").exists()


def test_what_was_half_written_is_taken_back(tmp_path: Path) -> None:
    """A full disk leaves no half of a mail: the whole is tried again.

    Here a limit on the size of files.
    """
    path = tmp_path / "mail.mbox"
    path.write_bytes(b"before\n")
    script = (
        "import asyncio, resource, signal, sys; from pathlib import Path; from devnest.mail import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "message = compose('devnest@example.org', 'ada@example.org', 'Hello', 'text')\n"
        "(failure,) = asyncio.run(FileTransport(Path(sys.argv[1])).send([message]))\n"
        "assert 'Errno 27' in failure.reason\n"
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
    assert [(failure.message, failure.is_final) for failure in failed] == [
        (MESSAGE, False),
        (TRICKY, False),
    ]
    assert "STARTTLS" in failed[0].reason
    assert server.received == []


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
@pytest.mark.parametrize(
    "reply", [b"235 welcome", b"535 5.7.8 p@ss/word is wrong, says AHVzZXIAcEBzcy93b3Jk"]
)
async def test_a_password_is_said_behind_tls(
    scheme: str, reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After EHLO, which says the same name behind it.

    A refusal says nothing about a mail, so it is not final.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    extensions = b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN"
    server = SmtpServer(answers={b"EHLO": extensions, b"STAR": b"220 go", b"AUTH": reply})
    async with server.running(tls() if scheme == "smtps" else None) as url:
        host = url.partition("//")[2]
        failed = await SmtpTransport(f"{scheme}://user:p%40ss%2Fword@{host}").send(
            [MESSAGE, TRICKY]
        )
    words = [command.split()[0] for command in server.commands]
    start = [b"EHLO", b"STARTTLS"] if scheme != "smtps" else []
    assert words[: len(start) + 2] == [*start, b"EHLO", b"AUTH"]
    assert len({command for command in server.commands if command.startswith(b"EHLO")}) == 1
    if reply.startswith(b"235"):
        assert (failed, len(server.received)) == ([], 2)
    else:
        assert [(one.is_final, one.reason) for one in failed] == [
            (False, "535 5.7.8 … is wrong, says …")
        ] * 2


async def test_several_messages_share_a_connection() -> None:
    """One that is refused, or cannot be said, is not the next one's trouble."""
    server = SmtpServer()
    refused, unsayable = (compose("devnest@example.org", to, "Hello", "text") for to in REFUSED)
    async with server.running() as url:
        failed = await SmtpTransport(url).send([MESSAGE, refused, unsayable, TRICKY])
    assert [(failure.message, failure.is_final) for failure in failed] == [
        (refused, True),
        (unsayable, True),
    ]
    assert failed[0].reason == "550 no such box"
    assert len(server.received) == 2
    assert len(server.connections) == 1


async def test_a_connection_that_is_lost_fails_what_follows() -> None:
    """What was taken before is not sent again."""
    server = SmtpServer(messages=1)
    async with server.running() as url:
        failed = await SmtpTransport(url).send([MESSAGE, TRICKY, TRICKY])
    assert [(failure.message, failure.is_final) for failure in failed] == [
        (TRICKY, False),
        (TRICKY, False),
    ]
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "reply", [b"", b"421 4.3.2 not now", b"what?", b"250-never\r\n 0", b"354 go", b"99999 no"]
)
async def test_a_connection_that_is_lost_at_one_mail_is_not_the_next_one_s_trouble(
    reply: bytes,
) -> None:
    """Those that come after it are sent, whatever the server does there, and each once.

    It is tried again itself.
    """
    odd = compose("devnest@example.org", "eve@odd.example", "Hello", "text")
    server = SmtpServer(at={b"odd.example": reply})
    async with server.running() as url:
        failed = await SmtpTransport(url).send([odd, MESSAGE, odd, odd, TRICKY])
    assert [(failure.message, failure.is_final) for failure in failed] == [(odd, False)] * 3
    assert [message_from_bytes(each)["To"] for each in server.received] == [
        MESSAGE["To"],
        TRICKY["To"],
    ]


async def test_a_server_may_take_only_some_mails_of_a_connection() -> None:
    """The rest has others, and has not failed."""
    server = SmtpServer(together=2)
    async with server.running() as url:
        assert await SmtpTransport(url).send([MESSAGE] * 7) == []
    assert len(server.received) == 7
    assert len(server.connections) == 4


async def test_nobody_listens() -> None:
    """Each message has failed."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (failure,) = await SmtpTransport(f"smtp://127.0.0.1:{unused.getsockname()[1]}").send(
            [MESSAGE]
        )
    assert (failure.message, failure.is_final) == (MESSAGE, False)


@pytest.mark.parametrize(
    "name", ["laptop.", "my_host", "laptop", "laptop..", "x" * 64, "mail.example.org."]
)
async def test_a_machine_with_any_name_sends_mail(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says a name that is one, or its address."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    server = SmtpServer()
    async with server.running() as url:
        assert await SmtpTransport(url).send([MESSAGE]) == []
    assert server.commands[0] in (b"EHLO [127.0.0.1]", b"EHLO mail.example.org")


@pytest.mark.parametrize(
    ("command", "answer", "final"),
    [
        (b"EHLO", b"554 5.7.1 go away", False),  # the server's mind about us, not about a mail
        (b"EHLO", b"421 4.3.2 not now", False),
        (b"MAIL", b"451 4.7.1 greylisted", False),
        (b"MAIL", b"550 5.7.1 not you", True),
        (b"RCPT", b"450 4.2.0 greylisted", False),
        (b"RCPT", b"421 4.3.2 not now", False),
        (b"RCPT", b"550 5.1.1 nobody", True),
        (b"DATA", b"452 4.3.1 full", False),
        (b"DATA", b"554 5.5.1 no", True),
        (b".", b"451 4.3.0 later", False),
        (b".", b"552 5.2.3 too large", True),
    ],
)
async def test_the_reply_tells_whether_to_try_again(
    command: bytes, answer: bytes, *, final: bool
) -> None:
    """At each step, and it is told as it was said.

    The mail after it is none the worse where the connection lasts.
    """
    server = SmtpServer(
        answers={command: answer} | ({b"HELO": answer} if command == b"EHLO" else {})
    )
    async with server.running() as url:
        failed = await SmtpTransport(url).send([MESSAGE, TRICKY])
    assert [failure.message for failure in failed] == [MESSAGE, TRICKY]
    assert (failed[0].is_final, failed[0].reason) == (final, answer.decode())
    assert failed[1].is_final == final
    assert server.received == []


async def test_a_reply_with_the_mail_in_it_leaks_no_code() -> None:
    """Some quote what they refuse."""
    code = "8h2kCq3n0aYb7cF1mZrT5wXvL9sJ4dGpQeUoIyHtNk_"
    server = SmtpServer(answers={b".": b"554-refused:\r\n554 " + code.encode()})
    async with server.running() as url:
        (failure,) = await SmtpTransport(url).send(
            [compose("a@example.org", "b@example.org", "Hello", f"{code}\n")]
        )
    assert failure.reason == "554 refused: …"


@pytest.mark.parametrize(
    "url", ["http://host", "smtp://", "mail.example.org", "smtp://user:secret@host", "smtp://h:x"]
)
def test_a_wrong_url_is_refused(url: str) -> None:
    """At the start, and without quoting it: it may hold a password."""
    with pytest.raises(ValueError, match=r".") as caught:
        SmtpTransport(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "end", ["\nBcc: eve@example.org", "\n", "\r", "\r\n\r\ntext", "\x0bBcc: eve@example.org"]
)
def test_no_header_can_be_smuggled_in(end: str) -> None:
    """A line feed in an address or a subject is an error, not a header."""
    with pytest.raises(ValueError, match="To"):
        compose("devnest@example.org", "ada@example.org" + end, "Hello", "text")
    with pytest.raises(ValueError, match="Subject"):
        compose("devnest@example.org", "ada@example.org", "Hello" + end, "text")
