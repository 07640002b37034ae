"""`devnest calibrate`, as a command of an app of the test's own."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from devnest.bcrypt import calibration, lanes
from devnest.bcrypt.calibration import calibrate_machine
from devnest.cli.calibrate import calibrate

app = typer.Typer()
app.command()(calibrate)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own, short measurements, and a machine that may be busy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = sys.modules[calibrate.__module__]  # by name, devnest.cli.calibrate is the command
    monkeypatch.setattr(module, "calibrate_machine", partial(calibrate_machine, rounds=1))
    monkeypatch.setattr(module, "MAX_BUSY_SHARE", 1.0)
    return tmp_path


def test_table(cache: Path) -> None:
    """Every lane count beside pyca/bcrypt, what follows, and where it is remembered."""
    done = CliRunner().invoke(app, [], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    for text in (
        "pyca/bcrypt",
        "1 lane",
        f"{lanes.most_measured()} lanes",
        "ms a batch",
        " *",
        "Lanes: ",
        "Cost: ",
        "Sign-ins: ",
        str(cache),
    ):
        assert text in done.stdout


def test_json_is_remembered() -> None:
    """One object; the choice in it is what the next process uses."""
    done = CliRunner().invoke(app, ["--json", "--target-ms", "100"])
    result = json.loads(done.stdout)
    assert result["target_ms"] == 100
    assert result["remembered"] is True
    assert len(result["rates"]["batch_ms"]) == len(result["rates"]["kernel"])
    assert lanes.remembered() == result["lanes"]


def test_nothing_is_remembered_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are shown, and the last choice stays; any use is too much for this test."""
    monkeypatch.setattr(sys.modules[calibrate.__module__], "MAX_BUSY_SHARE", -1.0)
    lanes.remember(3)
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0
    assert "Lanes: " in shown.stdout
    assert "Nothing is remembered: other programs used " in shown.stdout
    result = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    assert result["remembered"] is False
    assert 0 <= result["others"] <= 1
    assert lanes.remembered() == 3


def test_cache_out_of_reach(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on standard error, and the result all the same."""
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["remembered"] is False
    assert done.stderr.startswith("devnest: the lane count could not be remembered")


def test_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear line instead of lanes, and nothing is remembered."""
    problem = "the bcrypt kernel is not compiled (a reason)"
    monkeypatch.setattr(calibration, "KERNEL", None)
    monkeypatch.setattr("devnest.bcrypt.backend.KERNEL", None)
    monkeypatch.setattr(calibration, "PROBLEM", problem)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    assert f"bcrypt runs without lanes, on pyca/bcrypt: {problem}." in done.stdout
    assert lanes.remembered() is None


@pytest.mark.parametrize("target", ["0", "-1", "soon"])
def test_bad_target(target: str) -> None:
    """Refused as a wrong option."""
    assert CliRunner().invoke(app, ["--target-ms", target]).exit_code == 2
