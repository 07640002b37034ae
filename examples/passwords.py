"""The work of the three services beside this file: bcrypt, several passwords at a time on each core."""

from devnest import bcrypt
from devnest.pool import batched

COST = 12


@batched(max_size=bcrypt.LANES, pure=True)
def hash_passwords(calls: list[tuple[str]]) -> list[str]:
    """Hash the password of each call."""
    salts = [bcrypt.gensalt(COST) for _ in calls]
    hashes = bcrypt.hashpw_many([password.encode() for (password,) in calls], salts)
    return [hashed.decode() for hashed in hashes]


@batched(max_size=bcrypt.LANES, pure=True)
def check_passwords(calls: list[tuple[str, str]]) -> list[bool]:
    """Say of each call's password whether its hash is of it."""
    return bcrypt.checkpw_many(
        [password.encode() for password, _ in calls], [hashed.encode() for _, hashed in calls]
    )
