"""What the workers of a pool do with passwords."""

from typing import Any

import pytest

from devnest import bcrypt
from devnest.passwords import UnusableHash
from devnest.passwords.operations import hashpw_batch

SETTING = bcrypt.gensalt(4)


@pytest.mark.parametrize(
    ("call", "error"),
    [(("text", SETTING), TypeError), ((b"secret", SETTING.decode()), TypeError),
     ((None, SETTING), TypeError), ((b"x" * 73, SETTING), ValueError),
     ((b"secret", SETTING.replace(b"$04$", b"$31$")), UnusableHash),
     ((b"secret", b"salt"), UnusableHash)],
)  # fmt: skip
def test_a_bad_call_fails_alone(call: Any, error: type[Exception]) -> None:
    """The others of its batch are sign-ins of strangers."""
    first, bad, last = hashpw_batch([(b"secret", SETTING), call, (b"other", SETTING)])
    assert type(bad) is error
    assert "secret" not in str(bad)
    assert (first, last) == (bcrypt.hashpw(b"secret", SETTING), bcrypt.hashpw(b"other", SETTING))
