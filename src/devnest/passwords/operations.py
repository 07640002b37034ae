"""What a pool's workers do with passwords.

bcrypt hashes are faster when computed together, so new passwords and guesses are calls of one
batched operation. Hashes that replace a stored hash have an operation of their own: they may cost
many times as much, and a sign-in in the same batch would wait for them. The other schemes gain
nothing from batches, and a sign-in in a batch of five would wait five times as long, so their
hashes run one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from devnest.bcrypt import LANES
from devnest.passwords.scheme import Guess, NewPassword, Verdict, compute, compute_all
from devnest.pool import batched, pure

__all__ = ["OPERATIONS", "compute_alone", "compute_batch", "operation_of", "rehash_batch"]

Calls = Sequence[tuple[NewPassword | Guess]]


@batched(max_size=LANES, pure=True)
def compute_batch(calls: Calls) -> Sequence[str | Verdict | Exception]:
    """Hash new passwords and check guesses; bcrypt hashes are interleaved on one core."""
    return compute_all([call for (call,) in calls])


@batched(max_size=LANES, pure=True)
def rehash_batch(calls: Calls) -> Sequence[str | Verdict | Exception]:
    """Hash passwords like `compute_batch`, for hashes that replace others."""
    return compute_all([call for (call,) in calls])


@pure
def compute_alone(call: NewPassword | Guess) -> str | Verdict:
    """Hash one new password, or check one guess."""
    return compute(call)


OPERATIONS = (compute_batch, rehash_batch, compute_alone)


def operation_of(call: NewPassword | Guess, *, awaited: bool) -> Callable[..., Any]:
    """Return the operation for a call.

    Args:
        call: What to compute.
        awaited: Whether a sign-in or a registration waits for it, rather than a replacement.
    """
    if not call.is_interleaved:
        return compute_alone
    return compute_batch if awaited else rehash_batch
