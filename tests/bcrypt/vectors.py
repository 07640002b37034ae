"""The published vectors of native/vectors.txt, for the tests."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Vector(NamedTuple):
    """A password, at most 72 bytes, and its hash."""

    password: bytes
    hash: bytes

    @property
    def cost(self) -> int:
        """The cost in the hash."""
        return int(self.hash[4:6])


def load(max_cost: int) -> list[Vector]:
    """All vectors up to a cost."""
    vectors = []
    for line in (ROOT / "native" / "vectors.txt").read_text().splitlines():
        if not line.startswith("#"):
            _, password, text = line.split()
            vectors.append(Vector(bytes.fromhex(password.strip("-"))[:72], text.encode()))
    return [vector for vector in vectors if vector.cost <= max_cost]
