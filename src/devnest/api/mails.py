"""The messages that account holders get. Each is made after the answer, in the outbox.

A mail holds a token and no link: which page takes it is the front end's business, and a link made from a request's
Host header would be the sender's to choose.
"""

from email.message import Message
from uuid import UUID

from devnest.api.requests import ApiRequest
from devnest.mail import compose
from devnest.store import RESET_LIFETIME, Account, Purpose, create_mailed_token, find_account, find_resettable

__all__ = ["send_farewell", "send_moved", "send_notice", "send_proposal", "send_reset", "send_verification"]

VERIFY = """Hello {username},

this is the code that confirms your e-mail address at DevNest:

{token}

It is good for 24 hours. Enter it where you are signed in, or set a new password with it: that ends all sessions there
are. If you did not make this account, give the code to nobody. You may ignore this mail, or take the account that way.
"""
RESET = """Hello {username},

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


def send_farewell(request: ApiRequest, username: str, email: str) -> None:
    """Tell who was the account's holder that it has gone."""
    _send(request, email, "Your account was deleted", FAREWELL.format(username=username))


def send_moved(request: ApiRequest, email: str, new_email: str) -> None:
    """Tell the old address that another has taken its place."""
    _send(request, email, "Your e-mail address was changed", MOVED.format(email=new_email))


def _send(request: ApiRequest, email: str, subject: str, text: str) -> None:
    services = request.services

    async def job() -> Message:
        return compose(services.outbox.sender, email, subject, text)

    services.outbox.put(job, sender=request.sender)


def send_verification(request: ApiRequest, account: Account, email: str, token: str) -> None:
    """Ask whoever reads the new account's address to confirm it; the token is stored already."""
    _send(request, email, *_verification(account, token))


def send_proposal(request: ApiRequest, account: Account, email: str, password_hash: str) -> None:
    """Ask whoever reads `email` to confirm that address for the account, whose password had this hash when asked."""
    services = request.services

    async def job() -> Message | None:
        token = await create_mailed_token(services.database, account.id, Purpose.VERIFY, email, password_hash)
        if token is None:
            return None
        return compose(services.outbox.sender, email, *_verification(account, token))

    services.outbox.put(job, sender=request.sender)


def _verification(account: Account, token: str) -> tuple[str, str]:
    return "Confirm your e-mail address", VERIFY.format(username=account.username, token=token)


def send_reset(request: ApiRequest, email: str) -> None:
    """A reset token to the account with this address, if there is one and it is not disabled."""
    services = request.services

    async def job() -> Message | None:
        account = await find_resettable(services.database, email)
        if account is None or account.email is None:
            return None
        token = await create_mailed_token(services.database, account.id, Purpose.RESET, account.email)
        if token is None:
            return None
        text = RESET.format(username=account.username, token=token)
        return compose(services.outbox.sender, account.email, "Set a new password", text)

    services.outbox.put(job, sender=request.sender, keep_s=RESET_LIFETIME.total_seconds())


def send_notice(request: ApiRequest, account_id: UUID, what: str) -> None:
    """Tell the account's holder what was changed."""
    services = request.services

    async def job() -> Message | None:
        account = await find_account(services.database, account_id)
        if account is None or account.email is None:
            return None
        text = NOTICE.format(username=account.username, what=what)
        return compose(services.outbox.sender, account.email, "Your account was changed", text)

    services.outbox.put(job, sender=request.sender)
