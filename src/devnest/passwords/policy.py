"""Which new passwords are accepted, after NIST SP 800-63B-4, 3.1.1.2.

A password needs a number of code points after normalization, and may have any characters. It is
refused if it is among the first that are guessed: common passwords, the names of the account and of
the service, and small variations of both, and passwords of a list of breached ones, where one is
given. Only the whole password is compared, so a phrase may contain any word.
"""

import asyncio
import hashlib
import mmap
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Protocol

from devnest.extras import MissingExtra

__all__ = ["BreachedFile", "BreachedPasswords", "Policy", "WeakPassword"]

SAMPLES = 100  # lines of a list of breached passwords that are checked before it is used
HASH_LINE = re.compile(rb"[0-9A-F]{40}[:\r\n]?")
MIN_CHARS = 8  # OWASP ASVS 5 (6.2.1) allows no shorter limit
SERVICE = "devnest"
MAX_UNIT_CHARS = 4  # a password that only repeats so few characters is as weak as they are
MAX_TRIMMED_CHARS = 4  # so many digits and signs around a common password do not make it better
MIN_NAME_CHARS = 3  # shorter parts of a name are not looked for
SIGNS = "0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
PLAIN = str.maketrans("013457$@!", "oieastsai")


class WeakPassword(ValueError):
    """A new password is refused. The message says why and does not quote it."""


class BreachedPasswords(Protocol):
    """A list of passwords that were made public."""

    async def holds(self, sha1: bytes) -> bool:
        """Return whether it has a password with this SHA-1."""


class BreachedFile:
    """A file of breached passwords, in the form of the download of Have I Been Pwned.

    Each line is a SHA-1 in upper-case hexadecimal and `:count`; lines are sorted. The file is
    mapped and searched in place.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: A hundred sampled lines are not of this form, or not sorted.
    """

    def __init__(self, path: Path) -> None:
        self._lines: mmap.mmap | bytes = b""
        if path.stat().st_size:  # an empty file cannot be mapped
            with path.open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        places = sorted(
            {self._begin(len(self._lines) * place // SAMPLES) for place in range(SAMPLES)}
        )
        samples = [self._lines[place : place + 41].upper() for place in places]
        if not samples[0] or not all(HASH_LINE.fullmatch(sample) for sample in samples):
            raise ValueError("it does not hold lines of a SHA-1 in hexadecimal and :count")
        if samples != sorted(samples):
            raise ValueError("its lines are not sorted by hash")

    def _begin(self, place: int) -> int:
        """Return where the line at this place begins."""
        return self._lines.rfind(b"\n", 0, place) + 1

    async def holds(self, sha1: bytes) -> bool:
        """Return whether the file has this SHA-1. A thread looks, since that may touch the disk."""
        return await asyncio.to_thread(self._search, sha1.hex().upper().encode())

    def _search(self, wanted: bytes) -> bool:
        low, high = 0, len(self._lines)
        while low < high:
            start = self._lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._lines.find(b"\n", start, high)
            end = high if end < 0 else end
            found = self._lines[start : start + len(wanted)].upper()
            if found == wanted:
                return True
            low, high = (end + 1, high) if found < wanted else (low, start)
        return False


class Policy:
    """Accepts new passwords that are long enough and not easily guessed.

    Args:
        shortest: The fewest code points.
        breached: Passwords that were made public, which are refused too.

    Raises:
        MissingExtra: The extra `server`, which brings the list of common passwords, is not
        installed.
    """

    def __init__(
        self, shortest: int = MIN_CHARS, breached: BreachedPasswords | None = None
    ) -> None:
        self._shortest = shortest
        self._breached = breached
        _common()  # read the list now, not at the first registration

    async def check(self, password: str, names: Iterable[str]) -> None:
        """Raise `WeakPassword` for a password that an account with these names should not use."""
        text = unicodedata.normalize("NFKC", password)
        if len(text) < self._shortest:
            raise WeakPassword(f"shorter than {self._shortest} characters")
        if reason := _weakness(
            text.casefold(), {SERVICE, *(part for name in names for part in _parts(name))}
        ):
            raise WeakPassword(reason)
        # The lists have SHA-1 digests; here it protects nothing.
        sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
        if self._breached is not None and await self._breached.holds(sha1):
            raise WeakPassword("known from a data breach")


def _weakness(text: str, names: set[str]) -> str | None:
    unit = text[: (text + text).find(text, 1)]
    if len(unit) < len(text) and len(unit) <= MAX_UNIT_CHARS:
        return "a few characters over and over"
    forms = {text, unit, text.translate(PLAIN)}
    core = text.strip(SIGNS)
    if len(text) - len(core) <= MAX_TRIMMED_CHARS:
        forms |= {core, core.translate(PLAIN)}
    if forms & _common():
        return "one of the most common passwords"
    if any(form in names or form[::-1] in names for form in forms | {core}):
        return "made of your name or the service's"
    return None


def _parts(name: str) -> list[str]:
    """Return a name, both sides of an address, and each of these without digits around it."""
    parts = [name.casefold(), *name.casefold().split("@")]
    return [
        part
        for whole in parts
        for part in (whole, whole.strip(SIGNS))
        if len(part) >= MIN_NAME_CHARS
    ]


@cache
def _common() -> frozenset[str]:
    """Return the 30,000 common passwords of zxcvbn."""
    # Not at the import: a worker of the pool has no policy, and would spend time and memory on it.
    return frozenset(_module_alone("zxcvbn", "frequency_lists").FREQUENCY_LISTS["passwords"])


def _module_alone(package: str, name: str) -> ModuleType:
    """Load a module without its package, whose other modules are slow to load and not needed."""
    found = find_spec(package)
    if found is None:
        raise MissingExtra("a password policy", "server")
    assert found.submodule_search_locations is not None
    file = Path(found.submodule_search_locations[0], f"{name}.py")
    spec = spec_from_file_location(f"{__name__}.{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
