"""Who gets mail, how much of it, and what it says."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.mail.test_transports import SmtpServer
from tests.support import (
    NO_TLS,
    PASSWORD,
    PATIENCE_S,
    DevNest,
    confirm,
    eventually,
    sign_in,
    sign_up,
)

ME = "/api/v1/users/me"
REGISTER = "/api/v1/auth/register"
CHANGE = "/api/v1/auth/password/change"
FORGOT = "/api/v1/auth/password/forgot"
RESET = "/api/v1/auth/password/reset"
NEW = "a new battery staple"
AT_ONCE = 5  # mails to one box


@pytest.fixture
def client(limited: DevNest) -> Iterator[httpx.Client]:
    """An HTTP client of nobody."""
    with limited.client() as client:
        yield client


def name() -> str:
    return f"n{uuid.uuid4().hex[:20]}"


def register(client: httpx.Client, email: str) -> dict[str, str]:
    """Make an account with this address and sign it in; the answer to the registration."""
    username = name()
    answer = client.post(
        REGISTER, json={"username": username, "email": email, "password": PASSWORD}
    )
    assert answer.status_code == 201
    sign_in(client, username)
    account: dict[str, str] = answer.json()
    return account


def leave(client: httpx.Client) -> None:
    assert client.request("DELETE", ME, json={"password": PASSWORD}).status_code == 204


def others_are_through(devnest: DevNest, client: httpx.Client) -> None:
    """Wait until a mail that was asked for now has come: what was asked for long before has too."""
    username = name()
    sign_up(client, username)
    devnest.mails_to(f"{username}@example.org", 1)


def mails_to_box(devnest: DevNest, client: httpx.Client, box: str, count: int) -> list[str]:
    """The addresses of the mails to a box, under whatever name of it, when so many have come and
    what came after.
    """

    def found() -> list[str]:
        senders = (str(mail["To"]) for mail in devnest.mails())
        return [to for to in senders if to.lower().partition("@")[0].partition("+")[0] == box]

    eventually(lambda: len(found()) >= count)
    others_are_through(devnest, client)
    return found()


def test_a_box_that_never_confirmed_gets_few_mails(limited: DevNest, client: httpx.Client) -> None:
    """Whoever registers and deletes in a loop, in any spelling.

    And each registration answers like the first.
    """
    box = name()
    spellings = [
        f"{box}@example.org",
        f"{box}@EXAMPLE.org",
        f"{box.upper()}@example.org",
        f"{box}+x@example.org",
    ]
    for round_ in range(3 * len(spellings)):
        email = spellings[round_ % len(spellings)]
        account = register(client, email)
        assert set(account) == {"id", "username", "email", "created_at"}
        assert account["email"] == email
        leave(client)
    # Asked for with an account that stays: a mail is counted before its token is made, so one that
    # finds its account deleted between the two is counted and not sent.
    register(client, spellings[0])
    for email in spellings:
        client.post(FORGOT, json={"email": email})
    assert len(mails_to_box(limited, client, box, AT_ONCE)) == AT_ONCE


def test_a_box_that_is_proposed_again_and_again_gets_few_mails(
    limited: DevNest, client: httpx.Client
) -> None:
    """By several accounts, too."""
    box = name()
    for _ in range(2):
        register(client, f"{name()}@example.org")
        for _ in range(4):
            body = {"email": f"{box}@example.org", "password": PASSWORD}
            assert client.patch(ME, json=body).status_code == 200
    assert len(mails_to_box(limited, client, box, AT_ONCE)) == AT_ONCE


def test_what_was_sent_is_forgotten_in_time(limited: DevNest, client: httpx.Client) -> None:
    """One mail more in four hours."""
    box = name()
    for _ in range(AT_ONCE + 1):
        register(client, f"{box}@example.org")
        leave(client)
    assert len(mails_to_box(limited, client, box, AT_ONCE)) == AT_ONCE
    limited.query(
        "UPDATE mailboxes SET counted_until = counted_until - interval '4 hours 1 minute'"
    )
    for _ in range(2):
        register(client, f"{box}@example.org")
        leave(client)
    assert len(mails_to_box(limited, client, box, AT_ONCE + 1)) == AT_ONCE + 1


@pytest.mark.parametrize("confirmed", [False, True])
def test_notices_go_to_confirmed_addresses_only(
    devnest: DevNest, username: str, *, confirmed: bool
) -> None:
    """A change of name, address or password, and the end."""
    with devnest.client() as client:
        sign_up(client, username)
        if confirmed:
            confirm(devnest, username)
        body = {"username": name(), "email": f"new-{username}@example.org", "password": PASSWORD}
        assert client.patch(ME, json=body).status_code == 200
        devnest.mails_to(f"new-{username}@example.org", 1)
        tokens = client.post(CHANGE, json={"current": PASSWORD, "new": PASSWORD + "!"}).json()
        client.headers["authorization"] = f"Bearer {tokens['access_token']}"
        assert client.request("DELETE", ME, json={"password": PASSWORD + "!"}).status_code == 204
        others_are_through(devnest, client)
    mails = devnest.mails_to(f"{username}@example.org", 5 if confirmed else 1)
    assert len(mails) == (5 if confirmed else 1)


def test_a_mail_to_a_stranger_has_no_word_of_the_one_who_sends_it(
    devnest: DevNest, username: str
) -> None:
    """No name, at a registration, a reset or a proposal.

    An address that was confirmed gets the account's name.
    """
    email, proposed = f"{username}@example.org", f"new-{username}@example.org"
    with devnest.client() as client:
        sign_up(client, username)
        client.post(FORGOT, json={"email": email})
        client.patch(ME, json={"email": proposed, "password": PASSWORD})
        mails = [*devnest.mails_to(email, 2), *devnest.mails_to(proposed, 1)]
        assert [username in mail.get_content() for mail in mails] == [False] * 3
        confirm(devnest, username)
        client.post(FORGOT, json={"email": email})
        assert username in devnest.mails_to(email, 3)[2].get_content()


def test_an_address_that_somebody_chose_is_quoted_and_cut(devnest: DevNest, username: str) -> None:
    """In the notice to the account's own address."""
    proposed = f"{'send-your-password-to-evil.example/'}{name()}@{'call-0123456789.' * 8}example"
    with devnest.client() as client:
        sign_up(client, username)
        confirm(devnest, username)
        assert client.patch(ME, json={"email": proposed, "password": PASSWORD}).status_code == 200
    (notice,) = devnest.mails_to(f"{username}@example.org", 2)[1:]
    quoted = notice.get_content().split('"')[1]
    assert len(quoted) == 65
    assert (proposed[:32], proposed[-32:]) == tuple(quoted.split("…"))


def test_of_many_codes_at_once_the_newest_mail_has_a_good_one(
    devnest: DevNest, username: str
) -> None:
    """As each of them has, until one is used."""
    email, count = f"{username}@example.org", 8
    with devnest.client() as client:
        sign_up(client, username)
        confirm(devnest, username)
        together = threading.Barrier(count)

        def ask() -> int:
            with devnest.client() as own:
                together.wait(PATIENCE_S)
                return own.post(FORGOT, json={"email": email}).status_code

        with ThreadPoolExecutor(count) as threads:
            assert [asked.result() for asked in [threads.submit(ask) for _ in range(count)]] == [
                202
            ] * count
        mails = devnest.mails_to(email, 1 + count)[1:]
        codes = [
            next(line for line in mail.get_content().splitlines() if len(line) == 43)
            for mail in mails
        ]
        assert len(set(codes)) == count
        assert client.post(RESET, json={"token": codes[-1], "new": NEW}).status_code == 204
        assert {
            client.post(RESET, json={"token": code, "new": NEW}).status_code for code in codes
        } == {400}


async def test_one_network_s_mail_does_not_keep_another_s_waiting(data_dir: Path) -> None:
    """While the mail server takes none for a while, forty people register from one network, then
    one from another.
    """
    server, first, last = SmtpServer(), "127.0.0.2", "127.0.0.3"
    taking, serve = asyncio.Event(), server.serve

    async def serve_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taking.wait()
        await serve(reader, writer)

    def sign_up_from(address: str, username: str) -> None:
        transport = httpx.HTTPTransport(NO_TLS, local_address=address)
        with httpx.Client(base_url=devnest.url, transport=transport, timeout=PATIENCE_S) as client:
            sign_up(client, username)

    server.serve = serve_later  # type: ignore[method-assign]
    async with server.running() as url:
        devnest = DevNest(data_dir, "--smtp-url", url)
        await asyncio.to_thread(devnest.start)
        crowd = [name() for _ in range(40)]
        for username in crowd:
            await asyncio.to_thread(sign_up_from, first, username)
        await asyncio.to_thread(sign_up_from, last, single := name())
        taking.set()
        assert await asyncio.to_thread(devnest.stop) == 0
    received = [
        to.decode()
        for to in (message.partition(b"To: ")[2].partition(b"@")[0] for message in server.received)
    ]
    assert sorted(received) == sorted([*crowd, single])
    assert received.index(single) < 40 - 10
