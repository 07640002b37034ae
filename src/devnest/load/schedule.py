"""Stages: how many virtual users there are at each moment of a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from devnest.load.errors import BadPlan

__all__ = [
    "MAX_DURATION_S",
    "MAX_VUS",
    "Stage",
    "checked_rate",
    "constant",
    "parse_duration",
    "parse_stages",
    "shares",
    "vus_at",
]

# Limits of a run. They are above what one machine can do, and catch mistyped numbers.
MAX_VUS = 100_000
MAX_RATE = 1e6  # iterations per second
MAX_DURATION_S = 24 * 3600.0

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run in which the number of VUs changes linearly.

    It begins with the VUs of the stage before, or with 0.

    Args:
        duration_s: How long it lasts; 0 is a step.
        vus: The number of VUs at its end.
    """

    duration_s: float
    vus: int


def constant(vus: int, duration_s: float) -> tuple[Stage, ...]:
    """Return the stages of a constant number of VUs.

    Raises:
        BadPlan: A number is out of range.
    """
    return checked((Stage(0.0, vus), Stage(duration_s, vus)))


def parse_duration(text: str) -> float:
    """Return the seconds of `30`, `30s`, `1m30s`, `500ms` or `2h`.

    Raises:
        BadPlan: `text` is no duration.
    """
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return float(stripped)
    if not stripped or _DURATION.sub("", stripped):
        raise BadPlan(f"not a duration: {text!r} (write 30s, 1m30s or 500ms)")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(stripped))


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Return the stages of a text such as `10s:50,20s:100,10s:0`.

    Raises:
        BadPlan: The text names no stages, or a number is out of range.
    """
    stages = []
    for part in text.split(","):
        duration, colon, vus = part.partition(":")
        if not colon or not re.fullmatch(r"\s*\d+\s*", vus):
            raise BadPlan(
                f"not a stage: {part.strip()!r} (write DURATION:VUS, as in 10s:50,20s:100,10s:0)"
            )
        stages.append(Stage(parse_duration(duration), int(vus)))
    return checked(tuple(stages))


def checked(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return the same stages.

    Raises:
        BadPlan: A number is out of range.
    """
    for stage in stages:
        if stage.duration_s < 0 or stage.vus < 0:
            raise BadPlan(
                f"a stage of {stage.duration_s:g} s to {stage.vus} VUs; neither is less than 0"
            )
    duration_s = sum(stage.duration_s for stage in stages)
    most = max((stage.vus for stage in stages), default=0)
    if not 0 < duration_s <= MAX_DURATION_S:
        raise BadPlan(
            f"the stages last {duration_s:g} s; a run lasts more than 0 s and at most 24 h"
        )
    if not 0 < most <= MAX_VUS:
        raise BadPlan(f"the stages peak at {most} VUs; a run has 1 to {MAX_VUS:,}")
    return stages


def checked_rate(rate: float) -> float:
    """Return the same rate.

    Raises:
        BadPlan: It is out of range.
    """
    if not 0 < rate <= MAX_RATE:  # also refuses nan
        raise BadPlan(f"a rate of {rate:g} a second; it is more than 0 and at most {MAX_RATE:,.0f}")
    return rate


def shares(whole: int, weights: Sequence[int]) -> list[int]:
    """Return whole numbers that add up to `whole`, in proportion to `weights`."""
    ends = [whole * upto // sum(weights) for upto in accumulate(weights)]
    return [end - begin for begin, end in pairwise([0, *ends])]


def vus_at(stages: tuple[Stage, ...], elapsed_s: float) -> int:
    """Return the VUs wanted `elapsed_s` after the start; 0 once the last stage is over."""
    begin_s, before = 0.0, 0
    for stage in stages:
        if elapsed_s < begin_s + stage.duration_s:
            progress = (elapsed_s - begin_s) / stage.duration_s
            return round(before + (stage.vus - before) * progress)
        begin_s, before = begin_s + stage.duration_s, stage.vus
    return 0
