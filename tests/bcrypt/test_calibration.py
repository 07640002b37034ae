"""What is concluded from rates, and a real but short calibration."""

import json
import threading

import bcrypt
import pytest

from devnest.bcrypt import calibration
from devnest.bcrypt.calibration import Rates, calibrate_machine, measure
from devnest.bcrypt.lanes import most_measured
from tests.support import PATIENCE_S


@pytest.mark.parametrize(
    ("rates", "lanes"),
    [
        ([10, 20, 30, 40, 50, 45], 5),
        ([10, 20, 30, 40, 40.5, 40.6], 4),
        ([10, 20, 30, 40, 50, 60], 6),
        ([10, 20, 30, 40, 50, 50, 52, 52.4], 5),
        ([10, 20, 30, 40, 50, 50, 51, 52.6], 8),
        ([10, 20, 30, 40, 50, 50, 53, 53.1], 7),
        ([10, 20, 30, 40, 50, 60, 40, 40], 6),
    ],
)
def test_best(rates: list[float], lanes: int) -> None:
    """The fastest lane count, the smaller of two nearly equal, more than six only for 5 %."""
    assert Rates(10, rates).best() == lanes


def test_best_without_a_kernel() -> None:
    """One lane at pyca/bcrypt's rate."""
    rates = Rates(10, [])
    assert rates.best() == 1
    assert rates.of(rates.best()) == 10


def test_measured_here() -> None:
    """Every rate is there, and the whole is one JSON object."""
    result = calibrate_machine(250, 1, rounds=1)
    assert len(result.rates.kernel) == most_measured()
    assert result.as_dict()["rates"] == {
        "pyca": result.rates.pyca,
        "kernel": result.rates.kernel,
        "batch_ms": [1000 * n / rate for n, rate in enumerate(result.rates.kernel, start=1)],
    }
    assert result.ratio == result.rates.of(result.lanes) / result.rates.pyca
    assert json.loads(json.dumps(result.as_dict()))["cost"] == result.cost
    assert result.sign_ins_per_s == result.cores * result.rates.of(result.lanes) * 2.0 ** (
        10 - result.cost
    )


def test_cost_meets_the_target() -> None:
    """The batch is within the target and would not be at one cost more.

    There are bounds at both ends.
    """
    result = calibrate_machine(250, 1, rounds=1)
    assert result.target_met
    assert result.batch_ms <= 250 < 2 * result.batch_ms
    least, most = calibrate_machine(1e-6, 1, rounds=1), calibrate_machine(1e12, 1, rounds=1)
    assert (least.cost, least.target_met) == (4, False)
    assert (most.cost, most.target_met) == (31, True)


def test_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyca/bcrypt alone is measured."""
    monkeypatch.setattr(calibration, "KERNEL", None)
    monkeypatch.setattr("devnest.bcrypt.backend.KERNEL", None)
    rates = measure(rounds=1)
    assert rates.kernel == []
    assert rates.pyca > 0


def test_all_cores_hash_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """None has finished before the last has begun."""
    begun = threading.Barrier(3, timeout=PATIENCE_S)
    monkeypatch.setattr(calibration, "KERNEL", None)
    monkeypatch.setattr(bcrypt, "hashpw", lambda *_: begun.wait())
    assert measure(rounds=2, cores=3).pyca > 0
