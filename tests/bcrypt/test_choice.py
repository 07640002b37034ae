"""The choice of lanes: the setting, the memory, the rule, and every way they can be broken."""

import json
from pathlib import Path

import pytest

from devnest.bcrypt import _choice, _machine
from devnest.bcrypt._choice import Choice


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(_choice.VARIABLE, raising=False)
    return tmp_path


def test_rule_where_nothing_was_measured() -> None:
    """Never calibrated: the rule, within the kernel's bounds."""
    assert _choice.chosen() == _choice.by_rule()


@pytest.mark.parametrize(
    ("level1", "x86", "choice"),
    [
        (48 << 10, True, Choice(5, 5)),
        (32 << 10, True, Choice(4, 3)),
        (64 << 10, False, Choice(4, 0)),
        (1 << 20, True, Choice(5, 6)),
    ],
)
def test_rule(monkeypatch: pytest.MonkeyPatch, level1: int, x86: bool, choice: Choice) -> None:
    """Wide lanes as far as the cache holds them, on x86-64 only."""
    monkeypatch.setattr(_machine, "level1_bytes", lambda: level1)
    monkeypatch.setattr(_machine, "is_x86_64", lambda: x86)
    assert _choice.by_rule() == choice


def test_calibrated_choice_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine that shares the file has its own entry, and the setting goes before it."""
    _choice.remember(Choice(3, 2))
    monkeypatch.setattr(_machine, "cpu_model", lambda: "another CPU")
    assert _choice.remembered() is None
    path = _choice.remember(Choice(6, 0))
    assert _choice.chosen() == Choice(6, 0)
    monkeypatch.undo()
    assert len(json.loads(path.read_text())) == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEVNEST_LANES changes the lane count and leaves the layout."""
    _choice.remember(Choice(3, 2))
    monkeypatch.setenv(_choice.VARIABLE, "6")
    assert _choice.chosen() == Choice(6, 2)


@pytest.mark.parametrize("value", ["0", "7", "-1", "four", "4.0", " 4", "٤", "1" * 5000])
def test_bad_setting_is_named_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """One clear line, then as if it were not set."""
    monkeypatch.setenv(_choice.VARIABLE, value)
    assert _choice.chosen() == _choice.by_rule()
    assert len(caplog.records) == 1
    assert "is not a number from 1 to 6" in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        *(None, [], "5", {}, {"lanes": 4}, {"lanes": 4.0, "wide_lanes": 0}, {"lanes": "4", "wide_lanes": 0}),
        *({"lanes": lanes, "wide_lanes": wide} for lanes, wide in ((0, 0), (7, 0), (4, 7), (4, -1))),
    ],
    ids=repr,
)
def test_unsound_entry_is_as_good_as_none(entry: object) -> None:
    """Values out of bounds or of another type."""
    path = _choice.remember(Choice(2, 2))
    path.write_text(json.dumps({_choice.this_machine(): entry}))
    assert _choice.chosen() == _choice.by_rule()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b"9" * 5000])
def test_garbage_is_as_good_as_nothing(content: bytes) -> None:
    """Whatever is in the file; calibration then replaces it."""
    path = _choice.remember(Choice(2, 2))
    path.write_bytes(content)
    assert _choice.chosen() == _choice.by_rule()
    _choice.remember(Choice(2, 1))
    assert _choice.chosen() == Choice(2, 1)


def test_cache_that_cannot_be_read_or_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the directory should be stands for every cache out of reach, for root too."""
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    assert _choice.chosen() == _choice.by_rule()
    with pytest.raises(OSError, match="file"):
        _choice.remember(Choice(2, 2))


def test_relative_cache_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification asks."""
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert _choice.memory() == Path.home() / ".cache" / "devnest" / "lanes.json"


def test_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is read of the machine is there on every machine."""
    assert _machine.cpu_model()
    assert _machine.level1_bytes() >= 8 << 10
    assert _machine.usable_cores() >= 1
    monkeypatch.setattr(_machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(_machine, "CACHES", tmp_path / "none")
    assert _machine.cpu_model()
    assert _machine.level1_bytes() == _machine.USUAL_LEVEL1_BYTES
