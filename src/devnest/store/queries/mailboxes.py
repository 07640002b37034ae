"""Limits for mail that strangers can send to a mailbox, counted for all servers together.

Anyone can enter an address of another person: to register, to change an account's address, or to
reset a password. The limit applies to the mailbox and not to the account, so deleting an account
and registering it again does not reset the limit.

Each counter is a leaky bucket (GCRA), stored as one time: until then the mails that were sent are
accounted for. A mail moves the time forward by one period. No mail is sent if that would move it
too far ahead.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from devnest.store.database import Database
from devnest.store.queries.identifiers import folded

__all__ = ["RESETS", "UNCONFIRMED", "Allowance", "claim_mail", "mailbox"]


@dataclass(frozen=True)
class Allowance:
    """How many mails a mailbox may get.

    Attributes:
        name: Separates the counters of different allowances.
        burst: The most mails at once.
        period: Afterwards one mail per period.
    """

    name: str
    burst: int
    period: timedelta


# For an unconfirmed address, whose reader may not have asked for any mail. Five mails are a
# registration, a second code and some retries; then six a day follow.
UNCONFIRMED = Allowance("unconfirmed", 5, timedelta(hours=4))
# For the holder of an account, who may need a mail at any time. Codes are valid for 30 minutes, so
# even if strangers keep asking, the mailbox always has a valid one.
RESETS = Allowance("resets", 5, timedelta(minutes=10))

CLAIM = """
INSERT INTO mailboxes AS m (key, counted_until) VALUES ($1, now() + $2)
ON CONFLICT (key) DO UPDATE SET counted_until = greatest(m.counted_until, now()) + $2
WHERE m.counted_until <= now() + $3 RETURNING true"""


async def claim_mail(database: Database, allowance: Allowance, email: str) -> bool:
    """Count a mail to an address if its mailbox may get one.

    Args:
        database: Where the counters are.
        allowance: How many mails a mailbox may get for this reason.
        email: The address.

    Returns:
        False if the mailbox has reached its limit. Nothing is counted then.
    """
    key = hashlib.sha256(f"{allowance.name}\0{mailbox(email)}".encode()).digest()
    ahead = allowance.period * (allowance.burst - 1)
    return await database.fetch_value(CLAIM, key, allowance.period, ahead) is True


def mailbox(email: str) -> str:
    """Return the mailbox behind an address, as far as can be told.

    `ada+x@example.org` is `ada@example.org` (RFC 5233), and so is `a.da@example.org`, because the
    largest providers ignore dots. Where dots matter, two people share one counter, and a code may
    come later.
    """
    local, _, domain = folded(email).rpartition("@")
    return f"{local.partition('+')[0].replace('.', '') or local}@{domain}"
