"""hashpw and checkpw, for one password and for many: check everything, hash, compare."""

from collections.abc import Sequence
from hmac import compare_digest

from devnest.bcrypt.backend import hash_all
from devnest.bcrypt.encoding import COST_MAX, Setting, parse, require_bytes

PASSWORD_MAX = 72


class CostTooHigh(ValueError):
    """A salt or hash asks for more work than the caller allows."""

    def __init__(self, cost: int, max_cost: int) -> None:
        super().__init__(f"cost {cost} is above the bound of {max_cost}")
        self.cost = cost
        self.max_cost = max_cost


def hashpw(password: bytes, salt: bytes, *, max_cost: int = COST_MAX) -> bytes:
    """The bcrypt hash of a password, as pyca/bcrypt computes it.

    `salt` comes from `gensalt`, or is a hash to compute again. Raises TypeError for anything but bytes,
    ValueError for a password over 72 bytes or a malformed salt, CostTooHigh (a ValueError) for a cost above
    `max_cost`; always before any work. The GIL is released while it hashes.
    """
    return hash_all([password], [_take(password, salt, "salt", max_cost)])[0]


def checkpw(password: bytes, hashed_password: bytes, *, max_cost: int = COST_MAX) -> bool:
    """Whether the password has this hash; compared in constant time. Raises as `hashpw` does."""
    setting = _take(password, hashed_password, "hashed_password", max_cost)
    return compare_digest(hash_all([password], [setting])[0], hashed_password)


def hashpw_many(
    passwords: Sequence[bytes], salts: Sequence[bytes], *, max_cost: int = COST_MAX
) -> list[bytes]:
    """The hashes of many passwords, each with its salt, in their order; up to LANES at once on this core.

    Costs may differ; equal ones share the core best. Everything is checked before any work, as by `hashpw`:
    one bad entry refuses the whole batch, and a note on the error names it. The GIL is released for the
    whole batch, and Ctrl-C waits for its end: bound the time by the size of the batch and by `max_cost`.
    """
    return hash_all(passwords, _take_all(passwords, salts, "salt", max_cost))


def checkpw_many(
    passwords: Sequence[bytes], hashes: Sequence[bytes], *, max_cost: int = COST_MAX
) -> list[bool]:
    """Whether each password has its hash, in their order: `hashpw_many`, compared in constant time."""
    computed = hash_all(passwords, _take_all(passwords, hashes, "hashed_password", max_cost))
    return [compare_digest(ours, theirs) for ours, theirs in zip(computed, hashes, strict=True)]


def _take(password: bytes, text: bytes, name: str, max_cost: int) -> Setting:
    """The checked setting of one entry. The order of the checks is pyca/bcrypt's."""
    require_bytes("password", password)
    require_bytes(name, text)
    if len(password) > PASSWORD_MAX:
        raise ValueError(
            f"password cannot be longer than {PASSWORD_MAX} bytes, truncate manually if necessary "
            f"(e.g. my_password[:{PASSWORD_MAX}])"
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
