"""Published vectors through the public functions and through every shape of the kernel."""

import pytest

from devnest import bcrypt
from devnest.bcrypt import _kernel
from devnest.bcrypt.backend import with_kernel
from devnest.bcrypt.encoding import parse
from devnest.bcrypt.lanes import MAX_LANES
from tests.bcrypt.vectors import load


@pytest.mark.parametrize("vector", load(10), ids=lambda vector: vector.hash.decode())
def test_vector(vector: tuple[bytes, bytes]) -> None:
    """Every published vector, alone."""
    password, text = vector
    assert bcrypt.hashpw(password, text[:29]) == text
    assert bcrypt.checkpw(password, text)


def test_vectors_as_one_batch() -> None:
    """All of them at once, of five costs, keep their order."""
    passwords, hashes = zip(*load(8), strict=True)
    assert bcrypt.hashpw_many(passwords, hashes) == list(hashes)
    assert bcrypt.checkpw_many(passwords, hashes) == [True] * len(hashes)


@pytest.mark.parametrize("lanes", range(1, MAX_LANES + 1))
def test_every_width_and_position(lanes: int) -> None:
    """Each vector in every lane of every width, beside lanes with other passwords and salts."""
    for cost in (4, 5):
        vectors = [vector for vector in load(cost) if vector.cost == cost]
        for first in range(len(vectors)):
            group = [vectors[(first + lane) % len(vectors)] for lane in range(lanes)]
            passwords = [vector.password for vector in group]
            settings = [parse(vector.hash) for vector in group]
            assert with_kernel(_kernel, lanes, passwords, settings) == [
                vector.hash for vector in group
            ]


@pytest.mark.parametrize("version", [b"2a", b"2b", b"2x", b"2y"])
def test_bytes_are_not_sign_extended(version: bytes) -> None:
    """crypt_blowfish's signed char made the hash of a3 that of ff ff a3.

    2x here is the right algorithm too.
    """
    salt = b"$%s$05$/OK.fbVrR/bpIqNJ5ianF." % version
    assert bcrypt.hashpw(b"\xa3", salt) == salt + b"Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq"
    assert bcrypt.hashpw(b"\xff\xff\xa3", salt) == salt + b"CE5elHaaO4EbggVDjb8P19RukzXSM3e"


@pytest.mark.parametrize("length", [73, 255, 256, 257, 4096])
def test_length_does_not_wrap_around(length: int) -> None:
    """OpenBSD's 8-bit length made 255 bytes as good as none.

    Here, as in pyca/bcrypt, they are refused.
    """
    for function in (bcrypt.hashpw, bcrypt.checkpw):
        with pytest.raises(ValueError, match="72 bytes"):
            function(b"x" * length, bcrypt.gensalt(4))
