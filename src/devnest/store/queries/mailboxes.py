"""How much mail a mailbox gets at the wish of strangers, counted for all servers together.

Anyone can name an address: to register it, to move an account to it, to say that its password is forgotten. What is
counted is the mailbox, not the account: an account that was deleted and registered again has had its mails.

A count is one time, until when the mails so far are accounted for (a leaky bucket, or GCRA): each mail moves it on by
the allowance's period, and none is sent where it would be too far ahead.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from devnest.store.database import Database
from devnest.store.queries.identifiers import folded

__all__ = ["RESETS", "UNCONFIRMED", "Allowance", "claim_mail", "mailbox"]


@dataclass(frozen=True)
class Allowance:
    """So many mails at once, and then one in each period."""

    name: str
    burst: int
    period: timedelta


# Whoever reads it has asked for nothing: a registration, a second code and some tries, then six a day.
UNCONFIRMED = Allowance("unconfirmed", 5, timedelta(hours=4))
# To the holder of an account, who may need one at any time. Codes are good for 30 minutes, so while strangers ask on
# and on there is always one in the box that is good.
RESETS = Allowance("resets", 5, timedelta(minutes=10))

CLAIM = """
INSERT INTO mailboxes AS m (key, counted_until) VALUES ($1, now() + $2)
ON CONFLICT (key) DO UPDATE SET counted_until = greatest(m.counted_until, now()) + $2
WHERE m.counted_until <= now() + $3 RETURNING true"""


async def claim_mail(database: Database, allowance: Allowance, email: str) -> bool:
    """Count a mail to an address; False where its mailbox has had enough, and nothing is counted."""
    key = hashlib.sha256(f"{allowance.name}\0{mailbox(email)}".encode()).digest()
    ahead = allowance.period * (allowance.burst - 1)
    return await database.fetch_value(CLAIM, key, allowance.period, ahead) is True


def mailbox(email: str) -> str:
    """Where mail to an address ends up, as far as can be told.

    `ada+x@example.org` is `ada@example.org` (RFC 5233), and so is `a.da@example.org`: the largest providers take no
    notice of dots. Where one does, two of its people have one count at times, and a code comes later.
    """
    local, _, domain = folded(email).rpartition("@")
    return f"{local.partition('+')[0].replace('.', '') or local}@{domain}"
