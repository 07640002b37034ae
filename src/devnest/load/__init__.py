"""A load generator cheap enough not to measure itself: virtual users over HTTP/1.1, closed or open model."""

from .errors import BadPlan, GeneratorDied, LoadError, PrepareFailed, TargetUnreachable
from .profile import Crew, Profile, Scenario
from .result import Result
from .run import Plan, run
from .schedule import Stage, constant, parse_stages
from .user import Account, VirtualUser

__all__ = [
    "Account",
    "BadPlan",
    "Crew",
    "GeneratorDied",
    "LoadError",
    "Plan",
    "PrepareFailed",
    "Profile",
    "Result",
    "Scenario",
    "Stage",
    "TargetUnreachable",
    "VirtualUser",
    "constant",
    "parse_stages",
    "run",
]
