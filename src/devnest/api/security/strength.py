"""New passwords that are guessed too easily, refused with the field they stand in."""

from collections.abc import Iterable

from devnest.api.http.problems import FieldError, ProblemError
from devnest.passwords import Policy, WeakPassword

__all__ = ["check_strength"]


async def check_strength(policy: Policy, field: str, password: str, names: Iterable[str]) -> None:
    """Raise `ProblemError` 422 for a password that is guessed too easily."""
    try:
        await policy.check(password, names)
    except WeakPassword as weak:
        errors = [FieldError(field, str(weak))]
        raise ProblemError(
            422, "the password is too weak", kind="urn:devnest:weak-password", errors=errors
        ) from None
