"""A load generator cheap enough not to measure itself: virtual users over HTTP/1.1, closed or open model."""

from devnest.load.errors import BadPlan, GeneratorDied, LoadError, PrepareFailed, TargetUnreachable
from devnest.load.profile import Crew, Profile, Scenario
from devnest.load.result import Result
from devnest.load.run import Plan, run
from devnest.load.schedule import Stage, constant, parse_stages
from devnest.load.user import Account, VirtualUser

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
