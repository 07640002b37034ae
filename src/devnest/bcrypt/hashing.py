"""`hashpw` and `checkpw`, for one password and for many.

All arguments are checked before any work begins.
"""

from collections.abc import Sequence
from hmac import compare_digest

from devnest.bcrypt.backend import hash_all
from devnest.bcrypt.encoding import MAX_COST, Setting, parse, require_bytes

MAX_PASSWORD_BYTES = 72  # bcrypt reads no more of a password


class CostTooHigh(ValueError):
    """A salt or hash asks for more work than the caller allows.

    Attributes:
        cost: The cost that was asked for.
        max_cost: The highest cost that the caller allows.
    """

    def __init__(self, cost: int, max_cost: int) -> None:
        super().__init__(f"cost {cost} is above the bound of {max_cost}")
        self.cost = cost
        self.max_cost = max_cost


def hashpw(password: bytes, salt: bytes, *, max_cost: int = MAX_COST) -> bytes:
    """Hash a password as pyca/bcrypt does. The GIL is released meanwhile.

    Args:
        password: At most 72 bytes.
        salt: From `gensalt`, or a hash whose salt and cost are used again.
        max_cost: The highest cost to accept.

    Returns:
        The hash, 60 bytes.

    Raises:
        TypeError: An argument is not bytes.
        CostTooHigh: The cost is above `max_cost`.
        ValueError: The password is too long, or the salt is malformed.
    """
    return hash_all([password], [_take(password, salt, "salt", max_cost)])[0]


def checkpw(password: bytes, hashed_password: bytes, *, max_cost: int = MAX_COST) -> bool:
    """Check a password against a hash, which is compared in constant time.

    Args:
        password: At most 72 bytes.
        hashed_password: A hash of `hashpw`.
        max_cost: The highest cost to accept.

    Returns:
        Whether the password is the one that was hashed.

    Raises:
        TypeError: An argument is not bytes.
        CostTooHigh: The cost is above `max_cost`.
        ValueError: The password is too long, or the hash is malformed.
    """
    setting = _take(password, hashed_password, "hashed_password", max_cost)
    return compare_digest(hash_all([password], [setting])[0], hashed_password)


def hashpw_many(
    passwords: Sequence[bytes], salts: Sequence[bytes], *, max_cost: int = MAX_COST
) -> list[bytes]:
    """Hash many passwords, up to `LANES` of them at once on this core.

    The GIL is released for the whole batch, and Ctrl-C has to wait for its end. Bound that time by
    the size of the batch and by `max_cost`.

    Args:
        passwords: Each at most 72 bytes.
        salts: One for each password. Costs may differ; passwords of equal cost share the core best.
        max_cost: The highest cost to accept.

    Returns:
        The hashes, in the order of the passwords.

    Raises:
        TypeError: An entry is not bytes.
        CostTooHigh: A cost is above `max_cost`.
        ValueError: An entry is refused as by `hashpw`, or there are not as many salts as passwords.
            One bad entry refuses the whole batch before any work, and a note on the error names it.
    """
    return hash_all(passwords, _take_all(passwords, salts, "salt", max_cost))


def checkpw_many(
    passwords: Sequence[bytes], hashes: Sequence[bytes], *, max_cost: int = MAX_COST
) -> list[bool]:
    """Check many passwords, each against its hash, as `hashpw_many` hashes them.

    Args:
        passwords: Each at most 72 bytes.
        hashes: One for each password.
        max_cost: The highest cost to accept.

    Returns:
        For each password whether it is the one that was hashed, compared in constant time.

    Raises:
        TypeError: An entry is not bytes.
        CostTooHigh: A cost is above `max_cost`.
        ValueError: As `hashpw_many`.
    """
    computed = hash_all(passwords, _take_all(passwords, hashes, "hashed_password", max_cost))
    return [compare_digest(ours, theirs) for ours, theirs in zip(computed, hashes, strict=True)]


def _take(password: bytes, text: bytes, name: str, max_cost: int) -> Setting:
    """Check one entry, in the order in which pyca/bcrypt checks, and return its setting."""
    require_bytes("password", password)
    require_bytes(name, text)
    if len(password) > MAX_PASSWORD_BYTES:
        raise ValueError(
            f"password cannot be longer than {MAX_PASSWORD_BYTES} bytes, "
            f"truncate manually if necessary (e.g. my_password[:{MAX_PASSWORD_BYTES}])"
        )
    setting = parse(text)
    if setting.cost > max_cost:
        raise CostTooHigh(setting.cost, max_cost)
    return setting


def _take_all(
    passwords: Sequence[bytes], texts: Sequence[bytes], name: str, max_cost: int
) -> list[Setting]:
    if len(passwords) != len(texts):
        raise ValueError(f"{len(passwords)} passwords for {len(texts)} of the other")
    settings = []
    for index, (password, text) in enumerate(zip(passwords, texts, strict=True)):
        try:
            settings.append(_take(password, text, name, max_cost))
        except (TypeError, ValueError) as error:
            error.add_note(f"in entry {index} of {len(passwords)}")
            raise
    return settings
