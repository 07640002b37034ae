"""Refusal of new passwords that are easy to guess."""

from collections.abc import Iterable

from devnest.api.http.problems import FieldError, ProblemError
from devnest.passwords import Policy, WeakPassword

__all__ = ["check_strength"]


async def check_strength(policy: Policy, field: str, password: str, names: Iterable[str]) -> None:
    """Refuse a new password that is too easy to guess.

    Args:
        policy: Decides which passwords are too weak.
        field: The field of the body that contains the password.
        password: The new password.
        names: The account's username and e-mail address, which the password must not resemble.

    Raises:
        ProblemError: 422; the problem names the field.
    """
    try:
        await policy.check(password, names)
    except WeakPassword as weak:
        errors = [FieldError(field, str(weak))]
        raise ProblemError(
            422, "the password is too weak", kind="urn:devnest:weak-password", errors=errors
        ) from None
