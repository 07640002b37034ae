"""What several tests need: a DevNest as a real process on a data directory of its own."""

import asyncio
import fcntl
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from mailbox import mbox
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import psutil

PASSWORD = "correct horse battery"
ALL: list["DevNest"] = []  # every one a test has made
SHARED = (
    "TESTS_SHARED"  # the variable that names what the processes of a session share: a directory
)
PATIENCE_S = 120  # a safety net, never what a test measures

# Reading all authorities' certificates costs httpx 40 ms for each client, and nothing here speaks
# TLS.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SINGLE = httpx.Limits(max_keepalive_connections=0)
http = httpx.Client(
    verify=NO_TLS, timeout=PATIENCE_S, limits=SINGLE
)  # for requests over a connection of their own


def read_mbox(path: Path) -> list[EmailMessage]:
    """All messages of a mailbox."""
    with closing(mbox(path)) as mails:
        return [
            message_from_bytes(mails.get_bytes(key), policy=policy.SMTP) for key in mails.iterkeys()
        ]


def eventually(holds: Callable[[], bool], pause_s: float = 0.05) -> None:
    """Wait until something holds of which nothing tells us.

    Often enough, and cheap enough for the tests beside.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(pause_s)


@contextmanager
def data_directory() -> Iterator[Path]:
    """A place for a data directory that root's PostgreSQL user can reach too (pytest's own are
    private).
    """
    parent = Path(tempfile.mkdtemp(prefix="dn-"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        shutil.rmtree(parent)


def prepared() -> Path:
    """A data directory with an empty database of the newest schema: most tests care for neither
    being made.
    """
    shared = Path(os.environ[SHARED])
    path = shared / "prepared"
    with (shared / "lock").open(
        "w"
    ) as lock:  # whichever process of the session comes first makes it for all
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            making = shared / "making"
            with running(making, fresh=True):
                pass
            for file in making.iterdir():
                if file.is_file():  # keys: each makes its own
                    file.unlink()
            making.rename(path)
    return path


def prepare(data_dir: Path) -> None:
    """Make a data directory with a database in it."""
    subprocess.run(["cp", "-Rp", prepared(), data_dir], check=True)  # noqa: S607


def execute(url: str, *statements: str, database: str | None = None) -> None:
    """Run statements one by one, each in a transaction of its own.

    `database` is in place of the URL's.
    """

    async def run() -> None:
        connection = await asyncpg.connect(url, database=database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


class DevNest:
    """Run `devnest serve` on a free port: one server, one worker, cost 4, no limits.

    It has a process session of its own.

    A data directory that does not exist is copied from a prepared one, or, where `fresh`, left to
    DevNest to make.
    """

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        environment: dict[str, str] | None = None,
        fresh: bool = False,
        stderr: int = subprocess.PIPE,
        command: Sequence[str] = (sys.executable, "-m", "devnest"),
        cwd: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.fresh = fresh
        ALL.append(self)
        self.options = options
        self.environment = environment or {}
        self.command = command
        self.cwd = cwd
        self.stderr = stderr  # a descriptor, where the log is not to be read here
        self.process: subprocess.Popen[str]
        self.url = ""

    def start(self) -> "DevNest":
        """Start, and wait for the ready line."""
        if not self.fresh and not self.data_dir.exists():
            prepare(self.data_dir)
        small = ["--port=0", "--hash-cost=4", "--processes=1", "--hash-workers=1", "--no-limits"]
        arguments = [*small, f"--data-dir={self.data_dir}", *self.options]
        self.process = subprocess.Popen(
            [*self.command, "serve", *arguments],
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            start_new_session=True,
            env={**os.environ, **self.environment},
        )
        assert self.process.stdout is not None
        self._log: list[str] = []
        self._reader = threading.Thread(
            target=self._read_log, args=(self.process.stderr or (),), daemon=True
        )
        self._reader.start()
        line = self.process.stdout.readline()
        if not line.startswith("DevNest ready on http://"):
            self.process.wait(PATIENCE_S)
            raise AssertionError(
                f"not ready: {line!r}, status {self.process.returncode}\n{self.log()}"
            )
        self.url = line.split()[-1]
        return self

    def _read_log(self, stream: Iterable[str]) -> None:
        self._log.extend(stream)

    def log(self) -> str:
        """All it wrote to standard error; after its end."""
        self._reader.join(PATIENCE_S)
        return "".join(self._log)

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return hasattr(self, "process") and self.process.poll() is None

    def stop(self) -> int:
        """Ask it to stop and wait; its exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status

    def descendants(self) -> list[psutil.Process]:
        """Every process it started, PostgreSQL's included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, part: str) -> list[psutil.Process]:
        """Those of them whose command line names a part; any of PostgreSQL's may end meanwhile."""
        found = []
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                if part in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill_everything(self) -> None:
        """SIGKILL to it and to all it started, as a power cut would."""
        processes = [psutil.Process(self.process.pid), *self.descendants()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=PATIENCE_S)
        self.wait()

    def query(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        """Ask its embedded database."""
        socket_dir = (self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]

        async def ask() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(
                f"postgresql://devnest@/devnest?host={quote(socket_dir)}"
            )
            try:
                return [dict(row) for row in await connection.fetch(sql, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    def forget_failures(self) -> None:
        """Nobody has any, and what a server believes of who hammers is over."""
        from devnest.api.security.throttle_cache import (
            MAX_AGE_S,  # few tests need it, and it loads the API
        )

        self.query("DELETE FROM throttles")
        time.sleep(MAX_AGE_S)

    def mails(self) -> list[EmailMessage]:
        """All mails in its newest file, oldest first."""
        return read_mbox(self.data_dir / "mail.mbox")

    def mails_to(self, address: str, count: int) -> list[EmailMessage]:
        """The mails to an address, oldest first, once there are as many as `count`."""
        found: list[EmailMessage] = []

        def have_come() -> bool:
            found[:] = [mail for mail in self.mails() if mail["To"] == address]
            return len(found) >= count

        eventually(have_come)
        return found

    def mailed_code(self, address: str, count: int) -> str:
        """The code in the last of so many mails to an address.

        It may begin or end with a hyphen.
        """
        lines = self.mails_to(address, count)[count - 1].get_content().splitlines()
        (code,) = [line for line in lines if re.fullmatch("[A-Za-z0-9_-]{43}", line)]
        return str(code)

    def client(self, address: str | None = None) -> httpx.Client:
        """An HTTP client on the API's root; `address`: which of this machine's it comes from."""
        transport = httpx.HTTPTransport(NO_TLS, local_address=address)
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, transport=transport)


@contextmanager
def running(
    data_dir: Path, *options: str, environment: dict[str, str] | None = None, fresh: bool = False
) -> Iterator[DevNest]:
    """A DevNest from its ready line to a clean stop."""
    devnest = DevNest(data_dir, *options, environment=environment, fresh=fresh).start()
    try:
        yield devnest
    finally:
        if devnest.process.poll() is None:
            assert devnest.stop() == 0, devnest.log()


def sign_up(client: httpx.Client, username: str, password: str = PASSWORD) -> str:
    """Register, log in, and give the access token to the client."""
    account = {"username": username, "email": f"{username}@example.org", "password": password}
    assert client.post("/api/v1/auth/register", json=account).status_code == 201
    return sign_in(client, username, password)["access_token"]


def confirm(devnest: DevNest, username: str) -> None:
    """Let an account's address count as confirmed, so that it gets notices, when the
    registration's mail has come.
    """
    devnest.mails_to(f"{username}@example.org", 1)
    devnest.query("UPDATE accounts SET email_verified_at = now() WHERE username = $1", username)


def sign_in(client: httpx.Client, username: str, password: str = PASSWORD) -> dict[str, str]:
    """Log in, and give the access token to the client; the whole answer."""
    answer = client.post("/api/v1/auth/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    client.headers["authorization"] = f"Bearer {tokens['access_token']}"
    return tokens


def passes_in_a_fork(check: Callable[[], bool]) -> bool:
    """Return what a check returns in a forked child; false if it raises there.

    An exception must not leave the child's frame: the child would go on with the other tests.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int(not check())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
