"""Profiles: classes that say how many virtual users there are and what each does."""

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

__all__ = ["GeneratorContext", "Profile", "Scenario", "load_profile", "settings_of"]

VuFunction = Callable[[VirtualUser], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of virtual user in a run.

    Without `rate` (closed model) `stages` say how many VUs there are, and each begins an iteration
    when its last one has ended. With `rate` (open model) that many iterations begin per second,
    whether or not earlier ones have ended, and `stages` say how many VUs are ready to run them.

    Args:
        name: The name of the scenario.
        iteration: What a VU does over and over.
        stages: How many VUs there are, over time.
        start: What a VU does once, before its first iteration; repeated while it returns False.
        rate: Iterations per second of the open model; None for the closed model.
        think_s: The mean of `vu.think()`, in seconds.
        jitter: A pause lasts 1 - jitter to 1 + jitter times the mean; from 0 to 1.
        sources: Local addresses to connect from, in turn; empty leaves it to the system.
    """

    name: str
    iteration: VuFunction
    stages: tuple[Stage, ...]
    start: VuFunction | None = None
    rate: float | None = None
    think_s: float = 0.0
    jitter: float = 0.0
    sources: tuple[str, ...] = ()

    def check(self) -> None:
        """Check that the scenario can be run.

        Raises:
            BadPlan: The stages, `think_s` or `jitter` are out of range.
        """
        checked(self.stages)
        if self.think_s < 0 or not 0 <= self.jitter <= 1:
            raise BadPlan(
                f"thinking of {self.think_s:g} s with a jitter of {self.jitter:g}; "
                "0 s or more, and 0 to 1"
            )

    @property
    def max_vus(self) -> int:
        """The largest number of VUs at once."""
        return max(stage.vus for stage in self.stages)

    @property
    def duration_s(self) -> float:
        """The seconds that all stages take together."""
        return sum(stage.duration_s for stage in self.stages)


@dataclass(frozen=True, slots=True)
class GeneratorContext:
    """The part of a run that one generator process does.

    Args:
        session: What the VUs of this process share.
        index: The number of this process, from 0.
        generators: The number of processes.
    """

    session: Session
    index: int = 0
    generators: int = 1

    def share(self, whole: int) -> int:
        """Return this generator's part of `whole`. The parts of all generators add up to it."""
        return (whole + self.generators - 1 - self.index) // self.generators


class Profile:
    """The base of every profile: subclass it, define `iteration`, and set what differs.

    The command line can set every attribute that is a number or a text: `--set think_s=0.5`.
    """

    stages: tuple[Stage, ...] = (Stage(10, 50), Stage(20, 100), Stage(12, 0))
    rate: float | None = None
    think_s: float = 0.2  # the mean of `vu.think()`
    jitter: float = 0.5  # a pause lasts 1 - jitter to 1 + jitter times the mean
    takes_stages: ClassVar[bool] = True  # False: --stages, --vus and --rate are refused

    def scenarios(self, target_host: str) -> list[Scenario]:
        """Return the kinds of virtual users of this run.

        By default there is one, which does `start` once and then `iteration` over and over.

        Args:
            target_host: The host of the target's URL.
        """
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

    async def prepare(self, context: GeneratorContext) -> dict[str, float]:
        """Do what is needed before the measurement. Its requests are not counted.

        Returns:
            Named numbers to print, such as the accounts made.
        """
        return {}

    async def start(self, vu: VirtualUser) -> bool | None:
        """Do what each VU does once, before its first iteration.

        Returns:
            False if it failed and is to be repeated.
        """
        return None

    async def iteration(self, vu: VirtualUser) -> None:
        """Do what a VU does over and over."""
        raise NotImplementedError


def load_profile(spec: str, named: Mapping[str, type[Profile]]) -> Profile:
    """Return a profile of `named`, or an object of the class that `path.py:Class` names.

    Raises:
        BadPlan: There is no such profile, or it cannot be made.
    """
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
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:  # the file may import its neighbours
        sys.path.append(folder)  # last, so that no file there hides an installed module
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
    """Return the names that `--set` knows, with their types.

    An attribute that is a float in `Profile` is a float everywhere, even after `think_s = 1`.
    """
    return {
        name: float if isinstance(getattr(Profile, name, None), float) else type(value)
        for name in dir(profile)
        if not name.startswith("_")
        and isinstance(value := getattr(profile, name), int | float | str)
        and not isinstance(value, bool)
    }


def apply_settings(profile: Profile, settings: Mapping[str, str]) -> None:
    """Set attributes of `profile` from text, each converted to the type of its default.

    Raises:
        BadPlan: There is no such attribute, or the text does not fit its type.
    """
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
