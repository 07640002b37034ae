"""Hashes and checks passwords for the services in this directory, several at once on a core."""

from devnest import bcrypt
from devnest.pool import batched

COST = 12  # of bcrypt: 2 ** 12 rounds


@batched(max_size=bcrypt.LANES, pure=True)
def hash_passwords(calls: list[tuple[str]]) -> list[str]:
    """Return the bcrypt hash of each call's password."""
    salts = [bcrypt.gensalt(COST) for _ in calls]
    hashes = bcrypt.hashpw_many([password.encode() for (password,) in calls], salts)
    return [hashed.decode() for hashed in hashes]


@batched(max_size=bcrypt.LANES, pure=True)
def check_passwords(calls: list[tuple[str, str]]) -> list[bool]:
    """Return for each call whether its password has its hash."""
    return bcrypt.checkpw_many(
        [password.encode() for password, _ in calls], [hashed.encode() for _, hashed in calls]
    )
