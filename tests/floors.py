"""Constraints for the lowest versions that pyproject.toml allows, for `make test-floors`.

What DevNest needs at run time is pinned to its lower bound, everything else to constraints.txt.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<floor>[0-9.]+)")
OWN_EXTRA = "devnest["
RUN_TIME_EXTRAS = ("argon2", "eddsa", "load", "otel", "server")


def floors() -> dict[str, str]:
    """The lower bound of each dependency at run time, by its normalised name.

    An extra repeats what another has.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        *project["dependencies"],
        *(line for extra in RUN_TIME_EXTRAS for line in extras[extra]),
    }
    found = [REQUIREMENT.match(line) for line in wanted if not line.startswith(OWN_EXTRA)]
    assert all(found), "a dependency without a lower bound"
    lowest = {normalised(match["name"]): match["floor"] for match in found if match}
    assert len(lowest) == len(found), "a dependency with two lower bounds"
    return lowest


def normalised(name: str) -> str:
    """A name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> list[str]:
    """One line a package."""
    lowest = floors()
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    names = [normalised(pin.partition("==")[0]) for pin in pins]
    # Stubs have the version of what they describe.
    others = [
        pin
        for pin, name in zip(pins, names, strict=True)
        if name not in lowest and not name.endswith("-stubs")
    ]
    return sorted([*others, *(f"{name}=={floor}" for name, floor in lowest.items())])


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in constraints())
