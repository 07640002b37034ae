"""A virtual user (VU): one simulated client with its own connection, account and random numbers."""

import asyncio
import base64
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import msgspec

from devnest.load.connection import Answer, Connection
from devnest.load.errors import connect_failure
from devnest.load.request import encoded
from devnest.load.tally import Tally
from devnest.load.target import CONNECT_TIMEOUT_S, Target

__all__ = ["Account", "Session", "VirtualUser"]

API = "/api/v1"
# Connections that one generator opens at once: thousands would overflow the target's backlog.
MAX_CONCURRENT_CONNECTS = 128
_CHECK_INTERVAL_S = 0.25  # between two looks for requests over their timeout
_BACKOFF_S = 1.0  # pause of a VU whose connection failed
_FIRST_GOOD, _FIRST_BAD = 200, 300
_Shape = TypeVar("_Shape")
_TAGS = ("python", "postgres", "asyncio", "testing", "careers", "security", "linux", "web")
_WORDS = (
    "pool",
    "hash",
    "four",
    "lanes",
    "once",
    "readers",
    "hardly",
    "notice",
    "nobody",
    "waits",
    "long",
)


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the target.

    Args:
        id: From the answer to the registration; empty before.
        username: Its name.
        email: Its address.
        password: Its password, in plain text.
    """

    id: str
    username: str
    email: str
    password: str


class Session:
    """What the VUs of one generator process share.

    Args:
        target: The server to measure.
        seed: The seed of all random numbers.
        timeout_s: How long a request may take before it fails.
        run_tag: A part of every account's name, so that two runs never use the same.
    """

    def __init__(self, target: Target, *, seed: int, timeout_s: float, run_tag: str) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.run_tag = run_tag
        self.tally = Tally()
        self.random = random.Random(seed)  # noqa: S311 - it makes load, not secrets
        self.ssl = target.ssl_context()
        self.connects = asyncio.Semaphore(MAX_CONCURRENT_CONNECTS)
        self.connections: set[Connection] = set()
        self._accounts = 0
        self.reset_stall()

    def reset_stall(self) -> None:
        """Measure blocks of the event loop from now on."""
        self._checked_at = perf_counter()
        self._stall_s = 0.0

    def take_stall_s(self) -> float:
        """Return the longest block of the event loop since the last call.

        `enforce_timeouts` measures it, so blocks shorter than its interval may be missed.
        """
        stall_s, self._stall_s = self._stall_s, 0.0
        return stall_s

    def new_account(self) -> Account:
        """Return an account with an unused name. It is not registered and has no id."""
        self._accounts += 1
        name = f"u{self.run_tag}n{self._accounts}"
        return Account("", name, f"{name}@load.example", f"Lo4d!{self.random.getrandbits(64):016x}")

    async def enforce_timeouts(self) -> None:
        """Fail requests over their timeout, until cancelled.

        One look at all connections several times a second is cheaper than a timer for each
        request. A look that comes late shows that something blocked the event loop.
        """
        pause_s = min(_CHECK_INTERVAL_S, self.timeout_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now = perf_counter()
            self._stall_s = max(self._stall_s, now - self._checked_at - pause_s)
            self._checked_at = now
            oldest = now - self.timeout_s
            for connection in list(self.connections):
                if connection.is_waiting and connection.sent_at < oldest:
                    connection.fail(f"no answer within {self.timeout_s:g} s")


class VirtualUser:
    """What the methods of a profile get: requests, pauses and checks.

    A request raises no error for a bad answer: it is counted as failed, and the methods for
    DevNest's own routes return None or False. Requests go straight to the target: proxies that the
    environment names (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`) are never used.

    Attributes:
        session: What the VUs of this generator process share; `session.target` is the server.
        number: The VU's number, from 0, within its scenario and generator.
        random: Random numbers of its own, the same in each run with the same `--seed`.
        account: The account it uses, or None before it has one.
        token: Sent as `Authorization: Bearer`, unless empty. `login` sets it.
        status: The status of the last answer; 0 where there was no complete response.
        intended: In the open model, when the first request of the iteration was due, by
            `perf_counter()`; otherwise None.
    """

    def __init__(
        self,
        session: Session,
        number: int = 0,
        *,
        think_s: float = 0.0,
        jitter: float = 0.0,
        source: str = "",
    ) -> None:
        self.session = session
        self.number = number  # from 0, within its scenario and generator
        self.random = random.Random(session.random.getrandbits(64))  # noqa: S311 - see Session
        self.account: Account | None = None
        self.token = ""
        # In the open model: when the first request of the iteration was due, by perf_counter().
        self.intended: float | None = None
        self.status = 0  # of the last answer; 0: there was no complete response
        self._think_s = think_s
        self._jitter = jitter
        self._source = source
        self._connection: Connection | None = None

    async def register(self) -> Account | None:
        """Register a new account, which becomes the VU's; its name marks it as a load test's.

        Returns:
            The account, or None after a failure.
        """
        account = self.session.new_account()
        body = {"username": account.username, "email": account.email, "password": account.password}
        answer = await self.post_json("register", f"{API}/auth/register", body, expect=(201,))
        made = self._read(answer, "register", _Account)
        if made is None or not self.check(
            "register answers own account", made.username == account.username
        ):
            return None
        self.account = Account(made.id, account.username, account.email, account.password)
        return self.account

    async def login(self, name: str = "login", expect: Collection[int] = (200,)) -> bool:
        """Sign in to the VU's account.

        Args:
            name: The name of the request in the results.
            expect: The statuses that are no failure.

        Returns:
            Whether the VU is signed in: True only after a 200 with its own token.
        """
        assert self.account is not None, "register() or give the VU an account before login()"
        body = {"email": self.account.email, "password": self.account.password}
        answer = await self.post_json(name, f"{API}/auth/login", body, expect=expect)
        if answer.status != 200 and answer.status in expect:
            return False
        tokens = self._read(answer, name, _Tokens)
        if tokens is None or not self.check(
            f"{name} answers own token", _subject(tokens) == self.account.id
        ):
            return False
        self.token = tokens.access_token
        return True

    async def post(self) -> bool:
        """Publish a post of random words. The VU has to be signed in.

        Returns:
            Whether the answer is that post, by this account.
        """
        assert self.account is not None
        choice = self.random
        title = f"{' '.join(choice.sample(_WORDS, 4))} {choice.getrandbits(32):08x}"
        body = {
            "title": title,
            "body": " ".join(choice.choices(_WORDS, k=40)),
            "tags": choice.sample(_TAGS, 2),
        }
        answer = await self.post_json("post", f"{API}/posts", body, expect=(201,))
        made = self._read(answer, "post", _Post)
        if made is None:
            return False
        return self.check(
            "post answers own post", made.title == title and made.author.id == self.account.id
        )

    async def feed(self) -> bool:
        """Read the newest posts.

        Returns:
            Whether the answer is a page of posts.
        """
        answer = await self.request("feed", "GET", f"{API}/posts")
        return self._read(answer, "feed", _Page) is not None

    async def post_json(
        self, name: str, path: str, body: object, expect: Collection[int]
    ) -> Answer:
        """POST `body` as JSON.

        Args:
            name: The name of the request in the results.
            path: The path below the target's URL.
            body: Anything that `msgspec` encodes: dictionaries, lists, dataclasses, structs.
            expect: The statuses that are no failure.

        Returns:
            As `request`.
        """
        return await self.request(name, "POST", path, json=body, expect=expect)

    async def request(
        self,
        name: str,
        method: str,
        path: str,
        body: bytes | str = b"",
        *,
        json: object = msgspec.UNSET,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
    ) -> Answer:
        """Send one request and count its answer.

        Args:
            name: The name of the request in the results, its `name` tag.
            method: `GET`, `POST` and so on.
            path: The path below the target's URL, with its query, percent-encoded.
            body: Bytes, or text that is sent as UTF-8; empty for none. The content type is
                `application/octet-stream` or `text/plain; charset=utf-8` unless `headers` say more.
            json: Sent as JSON instead of `body`, also where it is None.
            headers: Further headers. They replace those that are sent otherwise: `Accept`,
                `Authorization`, `Content-Type` and `Host`.
            expect: The statuses that are no failure.

        Returns:
            The answer: `status` (0 where there is no complete response), `body`, `content_type`,
            `is_json`, `retry_after`, and the `reason` of a failure.

        Raises:
            ValueError: There is a `body` and a `json`, or a header cannot be sent.
        """
        tally = self.session.tally
        begin, self.intended = self.intended, None
        message = encoded(self.session.target, self.token, method, path, body, json, headers)
        attempted = perf_counter()
        connection = self._connection
        try:
            if connection is None or not connection.is_open:
                connection = await self._connect()
        except OSError as error:
            reason = f"cannot connect: {connect_failure(error)}"
            answer = Answer(0, b"", "", "", perf_counter(), reason)
            await asyncio.sleep(_BACKOFF_S)
        else:
            answer = await connection.send(message)
            attempted = connection.sent_at
            tally.sent_bytes += len(message)
            tally.received_bytes += connection.received
            connection.received = 0
        self.status = answer.status
        expected = answer.status in expect
        tally.request(name, answer.status, expected, answer.ended - (begin or attempted))
        if not self.check(f"{name} has the right status", expected):
            tally.error(name, answer.reason or f"status {answer.status}")
        return answer

    async def think(self, seconds: float | None = None) -> None:
        """Pause, longer or shorter by the profile's jitter.

        Args:
            seconds: The mean of the pause; without it, the profile's `think_s`.
        """
        mean = self._think_s if seconds is None else seconds
        await asyncio.sleep(mean * (1 + self._jitter * (2 * self.random.random() - 1)))

    def check(self, name: str, ok: bool) -> bool:
        """Count a check, which is what the metric `checks` shows. It stops nothing.

        Args:
            name: The name of the check in the results.
            ok: Whether it passed.

        Returns:
            `ok`.
        """
        self.session.tally.check(name, ok)
        return ok

    def close(self) -> None:
        """Close the connection. The next request opens another one."""
        if self._connection is not None:
            self._connection.abort()
            self.session.connections.discard(self._connection)
            self._connection = None

    async def _connect(self) -> Connection:
        self.close()
        session, target = self.session, self.session.target
        loop = asyncio.get_running_loop()
        async with session.connects:
            begin = perf_counter()
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, session.timeout_s)):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    target.address,
                    target.port,
                    ssl=session.ssl,
                    server_hostname=target.host if target.tls else None,
                    local_addr=(self._source, 0) if self._source else None,
                )
            session.tally.connecting.append(perf_counter() - begin)
        session.connections.add(connection)
        self._connection = connection
        return connection

    def _read(self, answer: Answer, name: str, shape: type[_Shape]) -> _Shape | None:
        """Return the body as `shape`, or None where the request failed or the body does not fit."""
        if not _FIRST_GOOD <= answer.status < _FIRST_BAD:
            return None
        read = None
        if not answer.is_json:
            self.session.tally.error(
                name, f"content type {answer.content_type or 'missing'} instead of JSON"
            )
        else:
            try:
                read = msgspec.json.decode(answer.body, type=shape)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.session.tally.error(name, "body not as the contract says")
        self.check(f"{name} has the right body", read is not None)
        return read


class _Account(msgspec.Struct):
    id: str
    username: str


class _Tokens(msgspec.Struct):
    access_token: str


class _Author(msgspec.Struct):
    id: str


class _Post(msgspec.Struct):
    title: str
    author: _Author


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None


class _Claims(msgspec.Struct):
    sub: str


def _subject(tokens: _Tokens) -> str:
    """Return the account id in an access token. Its signature is not verified."""
    payload = tokens.access_token.split(".")[1:2]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload[0] + "=="), type=_Claims).sub
    except (IndexError, ValueError):
        return ""
