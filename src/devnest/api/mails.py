"""The mails to account holders; the outbox writes and sends them after the response.

A mail contains a token and no link. Only the front end knows which of its pages takes the token,
and a link made from a request's `Host` header could be chosen by an attacker.

Anyone can make DevNest send mail to any address. Therefore a mail to an address that nobody has
confirmed contains only a code, and no text that a user has chosen, and the number of such mails is
limited for each mailbox. Notices about changes go only to confirmed addresses.
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
    "send_address_changed",
    "send_change_verification",
    "send_deleted",
    "send_notice",
    "send_reset",
    "send_verification",
    "shortened",
]

# An address in a mail to another person. That is enough to recognize it, but too little for a user
# to send a message to a stranger in the form of an address.
MAX_EMAIL_CHARS = 64
log = structlog.get_logger("devnest.api")

VERIFY = """Hello,

this is the code that confirms your e-mail address at DevNest:

{token}

The code is valid for 24 hours. Enter it where you are signed in. You can also set a new password
with it, which ends all sessions of the account.

If you did not create this account, do not give the code to anyone. You can ignore this mail, or
take the account over: set a new password with the code.
"""
RESET = """Hello{name},

someone asked to set a new password for your account at DevNest. If it was you, this is the code:

{token}

The code is valid once, for 30 minutes. If it was not you, ignore this mail. Nothing has changed.
"""
NOTICE = """Hello {username},

{what}

If it was not you, set a new password now: ask for a code with "forgot password". Then sign out
everywhere.
"""
ADDRESS_CHANGED = """Hello,

the e-mail address of your account at DevNest is {email} from now on. This is the last mail to this
address.

If it was not you, contact the operator of this service now. A new password for the account can only
be requested with the new address.
"""
DELETED = """Hello {username},

your account at DevNest was deleted, after someone entered your password. Your posts and comments
stay, without your name.

This is the last mail.
"""


def send_deleted(request: ApiRequest, account: Login) -> None:
    """Tell the former holder of an account that it was deleted, if the address was confirmed.

    Args:
        request: The request that deleted the account.
        account: What the account was before.
    """
    if account.email is not None and account.confirmed:
        _send(
            request,
            account.email,
            "Your account was deleted",
            DELETED.format(username=account.username),
        )


def send_address_changed(request: ApiRequest, proof: Proof) -> None:
    """Tell the old address that the account has a new one, if the old one was confirmed.

    Args:
        request: The request that confirmed the new address.
        proof: The account, with its old and its new address.
    """
    if proof.email_before is not None and proof.before_confirmed:
        text = ADDRESS_CHANGED.format(email=shortened(proof.email))
        _send(request, proof.email_before, "Your e-mail address was changed", text)


def _send(request: ApiRequest, email: str, subject: str, text: str) -> None:
    services = request.services

    async def job() -> Message:
        return compose(services.outbox.sender, email, subject, text)

    services.outbox.put(job, sender=request.sender)


def send_verification(request: ApiRequest, email: str, token: str) -> None:
    """Send the code that confirms the address of a new account.

    Args:
        request: The registration.
        email: The address.
        token: The code, which is stored already.
    """
    services = request.services

    async def job() -> Message | None:
        return await _verification(services, email, token)

    services.outbox.put(job, sender=request.sender)


def send_change_verification(
    request: ApiRequest, account_id: UUID, email: str, password_hash: str
) -> None:
    """Send the code that makes an address the new address of an account.

    Args:
        request: The request to change the address.
        account_id: The account.
        email: The new address.
        password_hash: The hash that the password was checked against. No code is made if the
            account has another hash by the time the mail is written.
    """
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
    """Send the code that sets a new password, if the address has an account that is not disabled.

    Args:
        request: The request for it.
        email: The address that the client gave.
    """
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
    """Count a mail for its mailbox; the client does not learn whether the mail is sent."""
    if not services.limited or await claim_mail(services.database, allowance, email):
        return True
    log.info("mail withheld, its mailbox had enough", allowance=allowance.name)
    return False


async def send_notice(request: ApiRequest, account_id: UUID, what: str) -> None:
    """Tell the account's holder about a change, if the account's address is confirmed.

    The address is looked up now, because an attacker could change it before the mail is written.

    Args:
        request: The request that made the change.
        account_id: The account.
        what: The change, as the first sentence of the mail.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """
    account = await find_confirmed(request.services.database, account_id)
    if account is not None:
        text = NOTICE.format(username=account.username, what=what)
        _send(request, account.email, "Your account was changed", text)


def shortened(email: str) -> str:
    """Quote an address, with an ellipsis in the middle if it is long.

    Args:
        email: The address. Of a long one, `MAX_EMAIL_CHARS` characters are kept.
    """
    if len(email) > MAX_EMAIL_CHARS:
        half = MAX_EMAIL_CHARS // 2
        email = f"{email[:half]}…{email[-half:]}"
    return f'"{email}"'
