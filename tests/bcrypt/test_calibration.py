"""What is concluded from rates, and a real but short calibration."""

import json

import pytest

from devnest.bcrypt import calibration
from devnest.bcrypt._choice import Choice
from devnest.bcrypt.calibration import Rates, calibrate_machine, machine_rate, measure


@pytest.mark.parametrize(
    ("narrow", "wide", "choice"),
    [
        ([10, 20, 30, 40, 50, 45], [11, 22, 33, 44, 55, 44], Choice(5, 5)),
        ([10, 20, 30, 40, 50, 45], [11, 22, 33, 39, 90, 90], Choice(5, 3)),
        ([10, 20, 30, 40, 40.5, 40.6], [9, 1, 1, 1, 1, 1], Choice(4, 0)),
        ([10, 20, 30, 40, 50, 60], [10, 20, 30, 40, 50, 60], Choice(6, 6)),
    ],
)
def test_best(narrow: list[float], wide: list[float], choice: Choice) -> None:
    """The fastest lane count, the smaller of two nearly equal; wide up to where narrow first wins."""
    assert Rates(10, narrow, wide).best() == choice


def test_best_without_a_kernel() -> None:
    """One lane at pyca/bcrypt's rate."""
    rates = Rates(10, [], [])
    assert rates.best() == Choice(1, 0)
    assert rates.of(rates.best()) == 10


def test_measured_here() -> None:
    """Every rate is there, and the whole is one JSON object."""
    result = calibrate_machine(250, rounds=1)
    assert len(result.rates.narrow) == len(result.rates.wide) == 6
    assert result.ratio == result.rates.of(Choice(result.lanes, result.wide_lanes)) / result.rates.pyca
    assert json.loads(json.dumps(result.as_dict()))["cost"] == result.cost


def test_cost_meets_the_target() -> None:
    """The batch is within the target and would not be at one cost more; there are bounds at both ends."""
    result = calibrate_machine(250, rounds=1)
    assert result.target_met
    assert result.batch_ms <= 250 < 2 * result.batch_ms
    least, most = calibrate_machine(1e-6, rounds=1), calibrate_machine(1e12, rounds=1)
    assert (least.cost, least.target_met) == (4, False)
    assert (most.cost, most.target_met) == (31, True)


def test_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyca/bcrypt alone is measured."""
    monkeypatch.setattr(calibration, "KERNEL", None)
    monkeypatch.setattr("devnest.bcrypt._backend.KERNEL", None)
    rates = measure(rounds=1)
    assert rates.narrow == rates.wide == []
    assert machine_rate(rates.best(), 2, rounds=1) > 0
