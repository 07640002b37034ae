"""Stages: how they are written, what is impossible, how many VUs they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.load import BadPlan, Stage, constant, parse_stages
from devnest.load.profile import GeneratorContext
from devnest.load.schedule import parse_duration, vus_at
from devnest.load.target import Target
from devnest.load.user import Session


def test_stages_are_straight_lines_between_their_ends() -> None:
    """10 s to 50, 20 s to 100, 10 s to 0: the published ramp."""
    stages = parse_stages("10s:50, 20s:100, 10s:0")
    assert stages == (Stage(10, 50), Stage(20, 100), Stage(10, 0))
    assert [vus_at(stages, moment) for moment in (0, 5, 10, 20, 30, 35, 40, 99)] == [
        0,
        25,
        50,
        75,
        100,
        50,
        0,
        0,
    ]


def test_constant_users_are_there_at_once() -> None:
    assert [vus_at(constant(7, 3), moment) for moment in (0, 2.999, 3)] == [7, 7, 0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("0.5s", 0.5)],
)
def test_durations_are_written_as_in_k6(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10s",
        "10s:",
        "10s:-5",
        "10s:many",
        "-10s:5",
        "ten:5",
        "0s:5",
        "10s:0",
        "25h:5",
        "10s:100001",
        "10s:5,,",
        "5x:1",
    ],
)
def test_impossible_stages_are_refused(text: str) -> None:
    with pytest.raises(BadPlan):
        parse_stages(text)


@given(whole=st.integers(0, 100_000), generators=st.integers(1, 64))
def test_the_generators_shares_add_up(whole: int, generators: int) -> None:
    """No VU is lost or doubled between processes, and no process has two more than another."""
    session = Session(Target.parse("http://127.0.0.1:1"), seed=1, timeout_s=1, run_tag="t")
    shares = [
        GeneratorContext(session, index, generators).share(whole) for index in range(generators)
    ]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1
