"""What a profile is: a small class that says how virtual users come, and what each does."""

import importlib.util
import inspect
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from devnest.load.errors import BadPlan
from devnest.load.schedule import Stage, checked
from devnest.load.user import Session, VirtualUser

__all__ = ["Crew", "Profile", "Scenario", "load_profile", "settings_of"]

Habit = Callable[[VirtualUser], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of virtual user within a run.

    Closed model: `stages` say how many VUs there are; each begins an iteration when its last one has ended.
    Open model: with `rate`, that many iterations a second begin, whether or not earlier ones have ended, and
    `stages` say how many VUs stand ready to take them.
    """

    name: str
    iteration: Habit
    stages: tuple[Stage, ...]
    start: Habit | None = None
    rate: float | None = None
    think_s: float = 0.0
    jitter: float = 0.0
    sources: tuple[
        str, ...
    ] = ()  # local addresses to connect from, in turn; empty: the system's choice

    def check(self) -> None:
        """Raise `BadPlan` where nobody could play it."""
        checked(self.stages)
        if self.think_s < 0 or not 0 <= self.jitter <= 1:
            raise BadPlan(
                f"thinking of {self.think_s:g} s with a jitter of {self.jitter:g}; 0 s or more, and 0 to 1"
            )

    @property
    def most_vus(self) -> int:
        return max(stage.vus for stage in self.stages)

    @property
    def duration_s(self) -> float:
        return sum(stage.duration_s for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Crew:
    """Which part of a run this generator process is: its shared things, its place among the generators."""

    session: Session
    index: int = 0
    generators: int = 1

    def share(self, whole: int) -> int:
        """This generator's part of `whole`; all generators' parts add up to it."""
        return (whole + self.generators - 1 - self.index) // self.generators


class Profile:
    """Base of every profile. Subclass it, say `iteration`, and set what differs.

    Every attribute that is a number or a text can be set from the command line: `--set think_s=0.5`.
    """

    stages: tuple[Stage, ...] = (Stage(10, 50), Stage(20, 100), Stage(12, 0))
    rate: float | None = None
    think_s: float = 0.2  # mean pause of `vu.think()`
    jitter: float = 0.5  # a pause is 1 - jitter to 1 + jitter times the mean
    takes_stages: ClassVar[bool] = (
        True  # False: the profile makes its own scenarios, and refuses --stages and --vus
    )

    def scenarios(self, target_host: str) -> list[Scenario]:
        """The kinds of virtual user of this run; by default one: `start` once, then `iteration` for ever."""
        return [
            Scenario(
                "default",
                self.iteration,
                self.stages,
                self.start,
                self.rate,
                self.think_s,
                self.jitter,
            )
        ]

    async def prepare(self, crew: Crew) -> dict[str, float]:
        """Done before the clock starts and counted apart. Gives figures to print, such as accounts made."""
        return {}

    async def start(self, vu: VirtualUser) -> bool | None:
        """Done once by each VU, when it comes; False means that it did not work, and is to be done again."""
        return None

    async def iteration(self, vu: VirtualUser) -> None:
        """What a VU does over and over."""
        raise NotImplementedError


def load_profile(spec: str, named: Mapping[str, type[Profile]]) -> Profile:
    """A profile of `named`, or the class of `path.py:Class`; `BadPlan` if there is none."""
    if spec in named:
        return named[spec]()
    path, colon, name = spec.rpartition(":")
    if not colon:
        raise BadPlan(f"no profile {spec!r}; there are {', '.join(named)}, or write path.py:Class")
    if not Path(path).is_file():
        raise BadPlan(f"no file {path!r} to take the profile {name} from")
    module_spec = importlib.util.spec_from_file_location("devnest_load_profile", path)
    if module_spec is None or module_spec.loader is None:
        raise BadPlan(f"{path!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    neighbours = str(Path(path).resolve().parent)
    if (
        neighbours not in sys.path
    ):  # last, so that no file there takes the place of a module that others import
        sys.path.append(neighbours)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise BadPlan(f"{path} does not run: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not inspect.isclass(found) or not issubclass(found, Profile):
        raise BadPlan(f"{path} has no class {name} made from devnest.load.Profile")
    if found.iteration is Profile.iteration and found.scenarios is Profile.scenarios:
        raise BadPlan(f"{name} of {path} has no iteration()")
    try:
        return found()
    except Exception as error:
        raise BadPlan(
            f"{name} of {path} cannot be made: {type(error).__name__}: {error}"
        ) from error


def settings_of(profile: Profile) -> dict[str, type]:
    """Names that `--set` knows, with their types: `think_s = 1` in a profile is as fractional as its base's."""
    return {
        name: float if isinstance(getattr(Profile, name, None), float) else type(value)
        for name in dir(profile)
        if not name.startswith("_")
        and isinstance(value := getattr(profile, name), int | float | str)
        and not isinstance(value, bool)
    }


def apply_settings(profile: Profile, settings: Mapping[str, str]) -> None:
    """Set attributes from text, each as the type its default has."""
    known = settings_of(profile)
    for name, text in settings.items():
        if name not in known:
            raise BadPlan(f"no setting {name!r}; this profile has {', '.join(sorted(known))}")
        try:
            value = known[name](text)
        except ValueError:
            raise BadPlan(f"the setting {name} is {known[name].__name__}, not {text!r}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise BadPlan(f"the setting {name} is a finite number, not {text!r}")
        setattr(profile, name, value)
