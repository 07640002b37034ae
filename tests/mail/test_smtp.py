"""What a mail server is told of us, and what a log is told of it."""

import re
import socket
from email.message import Message
from ipaddress import ip_address

import aiosmtplib
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devnest.mail import compose
from devnest.mail.smtp import helo_name, is_final, local_name, message_secrets, reason_of

# RFC 5321, 4.1.2 and 4.1.3
SUB_DOMAIN = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
CODE = "8h2kCq3n0aYb7cF1mZrT5wXvL9sJ4dGpQeUoIyHtNk_"
MAIL = compose(
    "devnest@example.org",
    "ada@example.org",
    "Hello",
    f"this is the code:\n\n{CODE}\n\nIt is good once.\n",
)


def is_legal(argument: str) -> bool:
    if argument.startswith("["):
        literal = argument.removeprefix("[").removesuffix("]")
        return str(ip_address(literal.removeprefix("IPv6:"))) in literal
    return (
        bool(re.fullmatch(rf"{SUB_DOMAIN}(?:\.{SUB_DOMAIN})+", argument)) and len(argument) <= 255
    )


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("mail.example.org", "mail.example.org"),
        ("mail.example.org.", "mail.example.org"),
        ("laptop", "[192.0.2.1]"),
        ("laptop.", "[192.0.2.1]"),
        ("my_host", "[192.0.2.1]"),
        ("my_host.example.org", "[192.0.2.1]"),
        ("-a.example.org", "[192.0.2.1]"),
        ("a..example.org", "[192.0.2.1]"),
        ("a.example.org..", "[192.0.2.1]"),
        (f"{'x' * 64}.example.org", "[192.0.2.1]"),
        ("192.0.2.7", "[192.0.2.1]"),
        ("münchen.example", "[192.0.2.1]"),
        ("a.example.org\n", "[192.0.2.1]"),
        ("", "[192.0.2.1]"),
    ],
)
def test_the_name_is_a_domain_or_an_address(name: str, argument: str) -> None:
    """What is no domain name to others is not said."""
    assert helo_name(name, "192.0.2.1") == argument


@pytest.mark.parametrize(
    ("address", "argument"),
    [
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
    ],
)
def test_an_address_is_written_as_the_rfc_says(address: str, argument: str) -> None:
    """IPv6 with its tag, without a zone."""
    assert helo_name("laptop", address) == argument


@given(
    st.one_of(st.text(), st.from_regex(r"[a-zA-Z0-9._-]{0,80}", fullmatch=True)),
    st.ip_addresses().map(str),
)
@example("a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 63, "192.0.2.1")
def test_whatever_the_machine_is_called_the_argument_is_legal(name: str, address: str) -> None:
    """By the grammar of RFC 5321."""
    assert is_legal(helo_name(name, address))


@pytest.mark.parametrize("name", ["laptop..", "x" * 70 + ".example.org", "my_host", "laptop."])
async def test_a_name_that_cannot_be_looked_up_is_no_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python fails to encode some."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert is_legal(await local_name("127.0.0.1"))


@pytest.mark.parametrize(
    ("error", "final", "reason"),
    [
        (
            aiosmtplib.SMTPDataError(554, "5.7.1 rejected as spam"),
            True,
            "554 5.7.1 rejected as spam",
        ),
        (
            aiosmtplib.SMTPDataError(451, "4.7.1 Greylisting in action"),
            False,
            "451 4.7.1 Greylisting in action",
        ),
        (
            aiosmtplib.SMTPRecipientsRefused(
                [aiosmtplib.SMTPRecipientRefused(550, "<ada@a.example>: no", "a")]
            ),
            True,
            "550 <address> no",
        ),
        (
            aiosmtplib.SMTPRecipientsRefused(
                [aiosmtplib.SMTPRecipientRefused(452, "4.2.2 over quota", "a")]
            ),
            False,
            "452 4.2.2 over quota",
        ),
        (aiosmtplib.SMTPResponseException(-1, "garbage\r\n\x1b[2J"), False, "-1 garbage [2J"),
        (
            aiosmtplib.SMTPServerDisconnected("Connection lost"),
            False,
            "SMTPServerDisconnected: Connection lost",
        ),
        (TimeoutError(), False, "TimeoutError: "),
        (ValueError("cannot be said"), True, "ValueError: cannot be said"),
    ],
)
def test_what_may_succeed_later_is_told_from_what_will_not(
    error: Exception, final: bool, reason: str
) -> None:
    """A 5xx is final, and so is what cannot be said at all; the reply is told in one line."""
    assert (is_final(error), reason_of(error)) == (final, reason)


def quotes() -> list[str]:
    whole = MAIL.as_bytes().decode()
    return [
        f"5.6.0 refused: {whole}",
        f"5.6.0 refused: {CODE}",
        f"5.6.0 refused: {CODE.lower()}",
        f"5.6.0 refused: {CODE.upper()}",
        f"5.6.0 refused: {CODE[:30]}",
        f"5.6.0 refused: x{CODE[5:]}x",
        f"5.6.0 refused: <{CODE[:20]}>\n<{CODE[20:]}>",
        f"5.6.0 refused: {' '.join(CODE)}",
        "5.6.0 refused: " + "=\n".join(CODE[at : at + 4] for at in range(0, 43, 4)),
    ]


@pytest.mark.parametrize("said", quotes())
def test_a_reply_that_quotes_the_mail_leaks_no_code(said: str) -> None:
    """The rest of it is told, where there is a rest."""
    reason = reason_of(aiosmtplib.SMTPDataError(554, said), *message_secrets(MAIL))
    assert reason.startswith(("554 5.6.0 refused", "554 (it quotes"))
    assert leaks(reason) < 5


@given(
    st.lists(
        st.tuples(st.integers(0, 43), st.integers(0, 43), st.text(" \n-=>.x", max_size=3)),
        max_size=12,
    )
)
def test_no_cut_of_the_code_is_told(cuts: list[tuple[int, int, str]]) -> None:
    """Wherever a server breaks it, and whatever it puts between."""
    said = "".join(CODE[start:end] + between for start, end, between in cuts)
    assert leaks(reason_of(aiosmtplib.SMTPDataError(554, said), *message_secrets(MAIL))) < 12


def leaks(reason: str) -> int:
    """How many characters of the code stand in a row in a text, whatever is between them."""
    told, code = re.sub("[^a-z0-9_]", "", reason.lower()), CODE.lower()
    runs = [
        end - start for start in range(44) for end in range(start, 44) if code[start:end] in told
    ]
    return max(runs)


def test_a_reply_leaks_no_password() -> None:
    """Nor one with signs in it."""
    for password in ("hunter2hunter2", "p@ss: w0rd!"):
        reason = reason_of(
            aiosmtplib.SMTPAuthenticationError(535, f"5.7.8 wrong: {password} for u"), password
        )
        assert password not in reason
        assert reason.startswith("535 5.7.8 wrong")


def test_a_long_reply_is_cut() -> None:
    """A log line has a bound."""
    assert len(reason_of(aiosmtplib.SMTPDataError(554, "no. " * 5000))) < 320


def test_a_mail_without_text_has_no_secret() -> None:
    """Nothing to look for is no error."""
    assert message_secrets(Message()) == []
