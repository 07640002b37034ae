"""Which new passwords are accepted, after NIST SP 800-63B-4, 3.1.1.2.

Length in code points after normalization, any character, nothing about kinds of characters. Refused is what is
guessed first: common passwords, the account's and the service's own names, and little variations of both. Where a
list of breached passwords is given, those too. The whole password is compared, never a part of it, so that a phrase
may hold any word.
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

PLACES = 100  # of a list of breached passwords that are looked at before it is used
HASH_LINE = re.compile(rb"[0-9A-F]{40}[:\r\n]?")
SHORTEST = 8  # the least that OWASP ASVS 5 (6.2.1) allows
SERVICE = "devnest"
SHORT_UNIT = 4  # a password that repeats so few characters over and over is as weak as they are
TRIMMINGS = 4  # so many digits and signs around a common word do not hide it
SHORTEST_WORD = 3  # of those that count as a name
SIGNS = "0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
PLAIN = str.maketrans("013457$@!", "oieastsai")


class WeakPassword(ValueError):
    """A new password is refused; the message says why and does not quote it."""


class BreachedPasswords(Protocol):
    """What knows passwords that were made public."""

    async def holds(self, sha1: bytes) -> bool:
        """Whether a password with this SHA-1 is among them."""


class BreachedFile:
    """Breached passwords in a file: lines of an upper-case SHA-1 in hexadecimal and `:count`, sorted.

    That is the form in which Have I Been Pwned gives its list for download. It is searched by halving, in place.
    Raises ValueError for a file that is not of this form at a hundred places, or not sorted: it would find nothing.
    """

    def __init__(self, path: Path) -> None:
        self._lines: mmap.mmap | bytes = b""
        if path.stat().st_size:  # an empty file cannot be mapped
            with path.open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        places = sorted(
            {self._begin(len(self._lines) * place // PLACES) for place in range(PLACES)}
        )
        samples = [self._lines[place : place + 41].upper() for place in places]
        if not samples[0] or not all(HASH_LINE.fullmatch(sample) for sample in samples):
            raise ValueError("it does not hold lines of a SHA-1 in hexadecimal and :count")
        if samples != sorted(samples):
            raise ValueError("its lines are not sorted by hash")

    def _begin(self, place: int) -> int:
        """Where the line of this place begins."""
        return self._lines.rfind(b"\n", 0, place) + 1

    async def holds(self, sha1: bytes) -> bool:
        """About 35 reads, which may touch the disk, so on a thread."""
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
    """What a new password has to be: at least `shortest` characters, and not easily guessed.

    Raises `MissingExtra` without the extra `server`, which brings the list of common passwords.
    """

    def __init__(self, shortest: int = SHORTEST, breached: BreachedPasswords | None = None) -> None:
        self._shortest = shortest
        self._breached = breached
        _common()  # read the list now, not at the first registration

    async def check(self, password: str, names: Iterable[str]) -> None:
        """Raise `WeakPassword` for a password not to be used by the account with these names."""
        text = unicodedata.normalize("NFKC", password)
        if len(text) < self._shortest:
            raise WeakPassword(f"shorter than {self._shortest} characters")
        if reason := _weakness(
            text.casefold(), {SERVICE, *(part for name in names for part in _parts(name))}
        ):
            raise WeakPassword(reason)
        # SHA-1 is what the lists are made of; it protects nothing here.
        sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
        if self._breached is not None and await self._breached.holds(sha1):
            raise WeakPassword("known from a data breach")


def _weakness(text: str, names: set[str]) -> str | None:
    unit = text[: (text + text).find(text, 1)]
    if len(unit) < len(text) and len(unit) <= SHORT_UNIT:
        return "a few characters over and over"
    forms = {text, unit, text.translate(PLAIN)}
    core = text.strip(SIGNS)
    if len(text) - len(core) <= TRIMMINGS:
        forms |= {core, core.translate(PLAIN)}
    if forms & _common():
        return "one of the most common passwords"
    if any(form in names or form[::-1] in names for form in forms | {core}):
        return "made of your name or the service's"
    return None


def _parts(name: str) -> list[str]:
    """A name, of an address what stands before and after the @, and each without the digits around it."""
    parts = [name.casefold(), *name.casefold().split("@")]
    return [
        part
        for whole in parts
        for part in (whole, whole.strip(SIGNS))
        if len(part) >= SHORTEST_WORD
    ]


@cache
def _common() -> frozenset[str]:
    """30,000 passwords, most common first in the list that zxcvbn carries."""
    # Not at the import: workers have no policy, and need neither the time nor the memory.
    return frozenset(_module_alone("zxcvbn", "frequency_lists").FREQUENCY_LISTS["passwords"])


def _module_alone(package: str, name: str) -> ModuleType:
    """A module without its package, whose other modules take twice as long to load and are not needed."""
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
