"""The choice of lanes: the setting, the memory, neither, and every way they can be broken."""

import json
from pathlib import Path

import pytest

from devnest.bcrypt import lanes, machine


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(lanes.VARIABLE, raising=False)
    return tmp_path


def test_where_nothing_was_measured() -> None:
    """Never calibrated: five."""
    assert lanes.chosen() == 5


def test_calibrated_choice_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine that shares the file has its own entry, and the setting goes before it."""
    lanes.remember(3)
    monkeypatch.setattr(lanes, "cpu_model", lambda: "another CPU")
    assert lanes.remembered() is None
    path = lanes.remember(6)
    assert lanes.chosen() == 6
    monkeypatch.undo()
    assert len(json.loads(path.read_text())) == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEVNEST_LANES goes before what was calibrated."""
    lanes.remember(3)
    monkeypatch.setenv(lanes.VARIABLE, "6")
    assert lanes.chosen() == 6


@pytest.mark.parametrize("value", ["0", "9", "-1", "four", "4.0", " 4", "٤", "1" * 5000])
def test_bad_setting_is_named_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """One clear line, then as if it were not set."""
    monkeypatch.setenv(lanes.VARIABLE, value)
    assert lanes.chosen() == lanes.DEFAULT_LANES
    assert len(caplog.records) == 1
    assert "is not a number from 1 to 8" in caplog.text


@pytest.mark.parametrize(
    "entry",
    [None, [], "4", 4, {}, *({"lanes": lanes} for lanes in (4.0, "4", None, [4], 0, 9, -1))],
    ids=repr,
)
def test_unsound_entry_is_as_good_as_none(entry: object) -> None:
    """Values out of bounds or of another type."""
    path = lanes.remember(2)
    path.write_text(json.dumps({lanes.this_machine(): entry}))
    assert lanes.chosen() == lanes.DEFAULT_LANES


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b"9" * 5000]
)
def test_garbage_is_as_good_as_nothing(content: bytes) -> None:
    """Whatever is in the file; calibration then replaces it."""
    path = lanes.remember(2)
    path.write_bytes(content)
    assert lanes.chosen() == lanes.DEFAULT_LANES
    lanes.remember(3)
    assert lanes.chosen() == 3


def test_cache_that_cannot_be_read_or_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the directory should be stands for every cache out of reach, for root too."""
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    assert lanes.chosen() == lanes.DEFAULT_LANES
    with pytest.raises(OSError, match="file"):
        lanes.remember(2)


def test_relative_cache_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification asks."""
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert lanes.calibration_file() == Path.home() / ".cache" / "devnest" / "lanes.json"


def test_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is read of the machine is there on every machine."""
    assert machine.cpu_model()
    assert machine.level_1_data_bytes() >= 0
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.cpu_model()


@pytest.mark.parametrize(
    ("size", "most"), [("32K", 6), ("48K", 8), ("128K", 8), ("much", 6), ("", 6), (None, 6)]
)
def test_lanes_that_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: str | None, most: int
) -> None:
    """More than six only where the level-1 data cache holds them; other caches do not count."""
    caches = [("1", "Instruction", "64K"), ("2", "Unified", "1024K"), ("1", "Data", size)]
    for index, values in enumerate(caches):
        (tmp_path / f"index{index}").mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            if value is not None:
                (tmp_path / f"index{index}" / name).write_text(f"{value}\n")
    monkeypatch.setattr(machine, "CACHES", tmp_path)
    assert lanes.most_measured() == most
