"""A load generator for HTTP/1.1 that costs far less than the server it measures.

`run` carries out a `Plan`: it starts generator processes, lets virtual users (VUs) come and go as
a `Profile` says, and returns a `Result`. The closed model keeps a number of VUs busy; the open
model starts iterations at a fixed rate.
"""

from devnest.load.errors import (
    BadPlan,
    GeneratorDied,
    LoadError,
    NotDevNest,
    PrepareFailed,
    TargetUnreachable,
)
from devnest.load.profile import GeneratorContext, Profile, Scenario
from devnest.load.result import Result
from devnest.load.run import Plan, run
from devnest.load.schedule import Stage, constant, parse_stages
from devnest.load.user import Account, VirtualUser

__all__ = [
    "Account",
    "BadPlan",
    "GeneratorContext",
    "GeneratorDied",
    "LoadError",
    "NotDevNest",
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
