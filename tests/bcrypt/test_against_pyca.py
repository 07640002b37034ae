"""The same answer as pyca/bcrypt, or the same exception with the same words, whatever is given."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import bcrypt as pyca
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnest import bcrypt
from devnest.bcrypt.encoding import Setting

BODY = b"abcdefghijklmnopqrstuu"
GOOD = b"$2b$04$" + BODY
HASH = pyca.hashpw(b"pw", GOOD)

SALTS: list[object] = [
    *(
        b"$%s$04$%s" % (version, BODY)
        for version in (b"2a", b"2b", b"2x", b"2y", b"2c", b"2", b"2B", b"1", b"")
    ),
    *(
        b"$2b$%s$%s" % (cost, BODY)
        for cost in (b"4", b"+4", b"004", b"+004", b"0" * 5000 + b"4", b"++4", b"4 ")
    ),
    *(
        b"$2b$%s$%s" % (cost, BODY)
        for cost in (b"03", b"32", b"99", b"132", b"4294967300", b"-4", b" 4", b"+")
    ),
    *(
        b"$2b$%s$%s" % (cost, BODY)
        for cost in (b"", b"4_", b"0_4", b"\xd9\xa4", b"\xff", b"0x4", b"4.0", b"\n4")
    ),
    *(
        b"$2b$04$" + body
        for body in (BODY[:-1], BODY[:-1] + b"v", BODY[:-1] + b"=", b"=" * 22, b"!" + BODY[1:])
    ),
    *(
        b"$2b$04$" + BODY[:-1] + last
        for last in (b".", b"O", b"e", b"u", b"/", b"\n", b"\0", b"9", b"\xff")
    ),
    *(
        b"$2b$04$" + BODY + rest
        for rest in (b"x", b"!!\xff", b"\n", b"\0", b"$", b"$x", b"x" * 4096)
    ),
    *(
        GOOD.replace(b"$", b"$$"),
        GOOD[1:],
        b"$" + GOOD,
        b" " + GOOD,
        GOOD + b"$$",
        b"\n" + GOOD,
        b"2b 04 x",
    ),
    *(
        b"",
        b"$",
        b"$$$",
        b"$2b$04$",
        b"$2b$04",
        b"\0",
        b"\xff" * 60,
        b"*0",
        b"x" * 4096,
        b"$" * 4096,
    ),
    *(
        HASH,
        HASH[:-1],
        HASH[:29],
        HASH[:28],
        HASH + b"a",
        HASH[1:],
        b"$" + HASH,
        HASH.replace(b"$04", b"$4"),
    ),
    *("$2b$04$", None, 4, bytearray(GOOD), memoryview(GOOD), GOOD.decode(), [GOOD], object),
]
PASSWORDS: list[object] = [
    *(
        b"",
        b"pw",
        b"\0",
        b"a\0b",
        b"a\0c",
        b"\xff\xfe",
        "né".encode("latin-1"),
        b"x" * 71,
        b"x" * 72,
        b"x" * 73,
    ),
    *(b"x" * 4096, "pw", "", None, 1, bytearray(b"pw"), memoryview(b"pw"), [b"pw"]),
]
GENSALT: list[tuple[object, ...]] = [
    *((rounds,) for rounds in (3, 32, 0, -1, 65535, 65536, 4.0, "4", None, True)),
    *((4, prefix) for prefix in (b"2y", b"2x", "2b", b"", bytearray(b"2a"))),
    *((rounds, prefix) for rounds in (-1, 3) for prefix in ("2b", b"xx")),
    (4, b"2b", 1),
]


def outcome(function: Callable[..., object], *arguments: Any, **keywords: Any) -> object:
    """What a call gives or raises, to compare."""
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        return type(error), str(error)


def assert_same(name: str, *arguments: object, **keywords: object) -> None:
    """The function of this name in both libraries does the same."""
    theirs = outcome(getattr(pyca, name), *arguments, **keywords)
    assert outcome(getattr(bcrypt, name), *arguments, **keywords) == theirs


def label(value: object) -> str:
    """The same in every process: without addresses."""
    return "memoryview" if isinstance(value, memoryview) else repr(value)[:60]


@pytest.mark.parametrize("salt", SALTS, ids=label)
def test_salts(salt: object) -> None:
    """Odd and malformed salts and hashes, as accepted and as refused by pyca/bcrypt."""
    for name in ("hashpw", "checkpw"):
        for password in (b"pw", b"x" * 73, "pw"):
            assert_same(name, password, salt)


@pytest.mark.parametrize("password", PASSWORDS, ids=label)
def test_passwords(password: object) -> None:
    """Every kind of password, with a salt, a hash and a bad salt."""
    for salt in (GOOD, HASH, b"bad"):
        assert_same("hashpw", password, salt)
        assert_same("checkpw", password, salt)


@pytest.mark.parametrize("arguments", GENSALT, ids=repr)
def test_gensalt_refuses(arguments: tuple[object, ...]) -> None:
    """gensalt's errors."""
    assert_same("gensalt", *arguments)


@pytest.mark.parametrize("arguments", [(), (4,), (31,), (5, b"2a"), (4, None)], ids=repr)
def test_gensalt(arguments: tuple[Any, ...]) -> None:
    """gensalt's salts look like pyca/bcrypt's, and no two are the same."""
    salts = {bcrypt.gensalt(*arguments) for _ in range(50)}
    assert len(salts) == 50
    assert {salt[:7] for salt in salts} == {pyca.gensalt(*arguments)[:7]}
    assert {len(salt) for salt in salts} == {29}


def test_calls_with_wrong_arguments() -> None:
    """Missing, superfluous and unknown arguments."""
    for name in ("hashpw", "checkpw"):
        for arguments in ((), (b"x",), (b"x", GOOD, 1)):
            assert_same(name, *arguments)
        assert_same(name, b"x", GOOD, unknown=1)
    assert_same("hashpw", password=b"x", salt=GOOD)
    assert_same("checkpw", password=b"pw", hashed_password=HASH)


passwords = st.binary(max_size=80)
salts = st.builds(
    lambda version, cost, raw: Setting(version, cost, raw).text(),
    st.sampled_from([b"2a", b"2b", b"2x", b"2y"]),
    st.integers(3, 5),
    st.binary(min_size=16, max_size=16),
)
fields = st.sampled_from(
    [b"$", b"2b", b"2a", b"04", b"4", b"+", b"0", b"", b"\xff", b".", BODY, BODY[:-1], b"u", b"\n"]
)


@settings(deadline=None, max_examples=150)
@given(passwords, salts)
def test_random_passwords(password: bytes, salt: bytes) -> None:
    """Random bytes of every length."""
    assert_same("hashpw", password, salt)


@settings(deadline=None, max_examples=150)
@given(st.lists(fields, max_size=12).map(b"".join))
def test_random_salts(salt: bytes) -> None:
    """Random arrangements of a salt's parts."""
    assert_same("hashpw", b"pw", salt)
    assert_same("checkpw", b"pw", salt)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.binary(max_size=72), salts.filter(lambda salt: salt[5:6] != b"3")), max_size=14
    )
)
def test_random_batches(entries: list[tuple[bytes, bytes]]) -> None:
    """A batch of mixed costs is the same as its entries one by one."""
    expected = [pyca.hashpw(password, salt) for password, salt in entries]
    batch = [password for password, _ in entries]
    assert bcrypt.hashpw_many(batch, [salt for _, salt in entries]) == expected
    assert bcrypt.checkpw_many(batch, expected) == [True] * len(batch)


def test_the_whole_public_interface_is_there() -> None:
    """Every function of pyca/bcrypt, and its version; its other names describe the package."""
    functions = {name for name in vars(pyca)["__all__"] if callable(getattr(pyca, name))}
    assert functions | {"__version__"} <= set(bcrypt.__all__)
    assert bcrypt.__version__ == version("bcrypt")


def test_kdf() -> None:
    """A published vector of pyca/bcrypt, from OpenBSD."""
    key = bcrypt.kdf(b"password", b"salt", 32, 4, ignore_few_rounds=True)
    assert key.hex() == "5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9"
