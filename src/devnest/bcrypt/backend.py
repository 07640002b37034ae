"""Chooses what computes the hashes: the compiled kernel where it works, else pyca/bcrypt.

At import the kernel hashes known passwords once with each possible number of lanes. If a single
answer is wrong, the kernel is not used at all: a wrong hash would lock people out, or let others
in.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import bcrypt as pyca

from devnest.bcrypt.encoding import Setting, parse
from devnest.bcrypt.lanes import MAX_LANES, chosen

DIGEST_BYTES = 23
# Passwords per call of the kernel. It bounds the memory that a batch needs beside its inputs and
# results to about 5 MiB.
MAX_CALL_PASSWORDS = 1 << 16

# Passwords and hashes from pyca/bcrypt's own tests.
KNOWN = (
    (b"Kk4DQuMMfZL9o", b"$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm"),
    (b"9IeRXmnGxMYbs", b"$2b$04$pQ7gRO7e6wx/936oXhNjrOUNOHL1D0h1N2IDbJZYs.1ppzSof6SPy"),
    (b"xVQVbwa1S0M8r", b"$2b$04$SQe9knOzepOVKoYXo9xTteNYr6MBwVz4tpriJVe3PNgYufGIsgKcW"),
    (b"Zfgr26LWd22Za", b"$2b$04$eH8zX.q5Q.j2hO1NkVYJQOM6KxntS/ow3.YzVmFrE4t//CoF4fvne"),
    (b"Tg4daC27epFBE", b"$2b$04$ahiTdwRXpUG2JLRcIznxc.s1.ydaPGD372bsGs8NqyYjLY1inG5n2"),
    (b"xhQPMmwh5ALzW", b"$2b$04$nQn78dV0hGHf5wUBe0zOFu8n07ZbWWOKoGasZKRspZxtt.vBRNMIy"),
    (b"59je8h5Gj71tg", b"$2b$04$cvXudZ5ugTg95W.rOjMITuM1jC0piCl3zF5cmGhzCibHZrNHkmckG"),
    (b"wT4fHJa2N9WSW", b"$2b$04$YYjtiq4Uh88yUsExO0RNTuEJ.tZlsONac16A8OcLHleWFjVawfGvO"),
)

CONSEQUENCE = "passwords are hashed by pyca/bcrypt, one at a time"
REMEDY = (
    "to have several at once, install a C compiler, and DevNest again "
    "with pip's options --force-reinstall --no-deps --no-cache-dir"
)


def with_kernel(
    kernel: ModuleType, lanes: int, passwords: Sequence[bytes], settings: Sequence[Setting]
) -> list[bytes]:
    """Return the hashes, in the order of the passwords.

    Passwords of equal cost are hashed together, since lanes that finish at different times waste
    work.
    """
    order = sorted(range(len(passwords)), key=lambda index: settings[index].cost)
    hashes = [b""] * len(passwords)
    for start in range(0, len(order), MAX_CALL_PASSWORDS):
        part = order[start : start + MAX_CALL_PASSWORDS]
        digests = kernel.digests(
            tuple(passwords[index] for index in part),
            b"".join(b"%c%s" % settings[index][1:] for index in part),
            lanes,
        )
        for place, index in enumerate(part):
            digest = digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]
            hashes[index] = settings[index].hash_text(digest)
    return hashes


def is_right(kernel: ModuleType) -> bool:
    """Return whether the kernel gives the known answers with every number of lanes."""
    passwords = [password for password, _ in KNOWN]
    answers = [answer for _, answer in KNOWN]
    settings = [parse(answer) for answer in answers]
    return all(
        with_kernel(kernel, width, passwords[:width], settings[:width]) == answers[:width]
        for width in range(1, MAX_LANES + 1)
    )


def load() -> tuple[ModuleType | None, int, str]:
    """Return the kernel, the lanes and ""; without a usable kernel None, 1 and the reason."""
    # `from devnest.bcrypt import _kernel` would report a circular import where the kernel is
    # missing.
    try:
        kernel = import_module("devnest.bcrypt._kernel")
    except ModuleNotFoundError:
        return _without_kernel("the bcrypt kernel is not compiled", REMEDY)
    except ImportError as error:  # compiled for another machine or another Python
        return _without_kernel(f"the bcrypt kernel cannot be loaded ({error})", REMEDY)
    if not is_right(kernel):
        return _without_kernel(
            "the bcrypt kernel computes wrong answers on this machine and is not used"
        )
    return kernel, chosen(), ""


def _without_kernel(problem: str, *remedy: str) -> tuple[None, int, str]:
    """Issue the warning, located at the line that imports `devnest.bcrypt`."""
    warnings.warn(f"{problem}: {'; '.join([CONSEQUENCE, *remedy])}", RuntimeWarning, stacklevel=5)
    return None, 1, problem


KERNEL, LANES, PROBLEM = load()


def hash_all(passwords: Sequence[bytes], settings: Sequence[Setting]) -> list[bytes]:
    """Return the hashes of checked passwords, in their order."""
    if KERNEL is None:
        return [
            pyca.hashpw(password, setting.text())
            for password, setting in zip(passwords, settings, strict=True)
        ]
    return with_kernel(KERNEL, LANES, passwords, settings)
