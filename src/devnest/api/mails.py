"""The messages that account holders get. Each is made after the answer, in the outbox.

A mail holds a token and no link: which page takes it is the front end's business, and a link made from a request's
Host header would be the sender's to choose.

Anyone can have mail sent to any address. So mails to an address that nobody has confirmed are counted for its mailbox,
hold nothing but a code, no name that somebody chose, and are no notices: those go to confirmed addresses alone.
"""

from email.message import Message
from uuid import UUID

import structlog

from devnest.api.http.request import ApiRequest
from devnest.api.services import Services
from devnest.mail import compose
from devnest.store import (
    RESET_LIFETIME,
    RESETS,
    UNCONFIRMED,
    Allowance,
    Login,
    Proof,
    Purpose,
    claim_mail,
    create_mailed_token,
    find_confirmed,
    find_resettable,
)

__all__ = [
    "send_farewell",
    "send_moved",
    "send_notice",
    "send_proposal",
    "send_reset",
    "send_verification",
    "shortened",
]

# Of an address that somebody chose, in a mail to somebody else: enough to tell which it is, too little for a letter.
MAX_EMAIL_CHARS = 64
log = structlog.get_logger("devnest.api")

VERIFY = """Hello,

this is the code that confirms your e-mail address at DevNest:

{token}

It is good for 24 hours. Enter it where you are signed in, or set a new password with it: that ends all sessions there
are. If you did not make this account, give the code to nobody. You may ignore this mail, or take the account that way.
"""
RESET = """Hello{name},

someone, we hope you, asked to set a new password for your account at DevNest. This is the code for it:

{token}

It is good once, for 30 minutes. If it was not you, ignore this mail: nothing has changed.
"""
NOTICE = """Hello {username},

{what}

If it was not you, set a new password now (ask for a code with "forgot password") and sign out everywhere.
"""
MOVED = """Hello,

the e-mail address of your account at DevNest is {email} from now on. This was the last mail to this one.

If it was not you, tell whoever runs this service now: the new address can ask for a new password, this one no longer.
"""
FAREWELL = """Hello {username},

your account at DevNest was deleted with your password. What you published stays, without your name.

This was the last mail.
"""


def send_farewell(request: ApiRequest, account: Login) -> None:
    """Tell who was the account's holder that it has gone."""
    if account.email is not None and account.confirmed:
        _send(
            request,
            account.email,
            "Your account was deleted",
            FAREWELL.format(username=account.username),
        )


def send_moved(request: ApiRequest, proof: Proof) -> None:
    """Tell the old address that another has taken its place."""
    if proof.email_before is not None and proof.before_confirmed:
        text = MOVED.format(email=shortened(proof.email))
        _send(request, proof.email_before, "Your e-mail address was changed", text)


def _send(request: ApiRequest, email: str, subject: str, text: str) -> None:
    services = request.services

    async def job() -> Message:
        return compose(services.outbox.sender, email, subject, text)

    services.outbox.put(job, sender=request.sender)


def send_verification(request: ApiRequest, email: str, token: str) -> None:
    """Ask whoever reads a new account's address to confirm it; the token is stored already."""
    services = request.services

    async def job() -> Message | None:
        return await _verification(services, email, token)

    services.outbox.put(job, sender=request.sender)


def send_proposal(request: ApiRequest, account_id: UUID, email: str, password_hash: str) -> None:
    """Ask whoever reads `email` to confirm that address for an account, whose password had this hash when asked."""
    services = request.services

    async def job() -> Message | None:
        token = await create_mailed_token(
            services.database, account_id, Purpose.VERIFY, email, password_hash
        )
        return None if token is None else await _verification(services, email, token)

    services.outbox.put(job, sender=request.sender)


async def _verification(services: Services, email: str, token: str) -> Message | None:
    if not await _is_allowed(services, UNCONFIRMED, email):
        return None
    return compose(
        services.outbox.sender, email, "Confirm your e-mail address", VERIFY.format(token=token)
    )


def send_reset(request: ApiRequest, email: str) -> None:
    """A reset token to the account with this address, if there is one and it is not disabled."""
    services = request.services

    async def job() -> Message | None:
        account = await find_resettable(services.database, email)
        if account is None:
            return None
        if not await _is_allowed(
            services, RESETS if account.confirmed else UNCONFIRMED, account.email
        ):
            return None
        token = await create_mailed_token(
            services.database, account.account_id, Purpose.RESET, account.email
        )
        if token is None:
            return None
        text = RESET.format(name=f" {account.username}" if account.confirmed else "", token=token)
        return compose(services.outbox.sender, account.email, "Set a new password", text)

    services.outbox.put(job, sender=request.sender, keep_s=RESET_LIFETIME.total_seconds())


async def _is_allowed(services: Services, allowance: Allowance, email: str) -> bool:
    """Count a mail for its mailbox. Whoever had it sent is told nothing."""
    if not services.limited or await claim_mail(services.database, allowance, email):
        return True
    log.info("mail withheld, its mailbox had enough", allowance=allowance.name)
    return False


async def send_notice(request: ApiRequest, account_id: UUID, what: str) -> None:
    """Tell the account's holder what was changed, at a confirmed address: the one that the account has now.

    By the time the mail is written a thief may have moved the account.
    """
    account = await find_confirmed(request.services.database, account_id)
    if account is not None:
        text = NOTICE.format(username=account.username, what=what)
        _send(request, account.email, "Your account was changed", text)


def shortened(email: str) -> str:
    """An address, quoted; of a long one the beginning and the end."""
    if len(email) > MAX_EMAIL_CHARS:
        half = MAX_EMAIL_CHARS // 2
        email = f"{email[:half]}…{email[-half:]}"
    return f'"{email}"'
