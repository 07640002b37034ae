"""`devnest compare`: results of three programs beside each other, and files that hold none."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from devnest.cli.commands import app
from devnest.experiment.compare import comparison, read_entries
from devnest.load import BadPlan
from devnest.load.summary import exported
from tests.experiment.results import loaded, measured
from tests.load.test_report import BROWSER, drawn, figures_of

# As k6 1.1 writes it, without what is not read.
K6: dict[str, Any] = {
    "root_group": {"name": "", "checks": {}},
    "metrics": {
        "http_reqs": {"count": 7656, "rate": 179.2},
        "http_req_failed": {"passes": 0, "fails": 7656, "value": 0},
        "http_req_duration": {"avg": 90.1, "max": 800, "med": 20.5, "min": 1, "p(95)": 419.0},
    },
}


def write(path: Path, content: object) -> Path:
    path.write_bytes(msgspec.json.encode(content))
    return path


def test_results_of_all_three_programs_are_entries(tmp_path: Path) -> None:
    measured(runs=3).save(tmp_path / "bench.json")
    load = write(tmp_path / "load.json", exported(loaded(0.1)))
    entries = read_entries([load, write(tmp_path / "k6.json", K6), tmp_path / "bench.json", load])
    assert [entry.name for entry in entries] == [
        "load",
        "k6",
        "bench: Before | <b>",
        "bench: After",
        "bench: Node",
        "load (2)",
    ]
    assert entries[0].p95_ms_by_route == {
        "login": pytest.approx(100, rel=0.01),
        "post": pytest.approx(2, rel=0.01),
    }
    assert (entries[1].requests, entries[1].failed, entries[1].p95_ms) == (7656, 0, 419.0)
    assert entries[0].curve
    assert entries[2].curve
    assert not entries[1].curve


def test_the_ratios_are_to_the_first_entry(tmp_path: Path) -> None:
    slow = write(tmp_path / "slow.json", exported(loaded(0.4)))
    fast = write(tmp_path / "fast.json", exported(loaded(0.1, failed=True)))
    report = tmp_path / "report.html"
    result = CliRunner().invoke(
        app, ["compare", str(slow), str(fast), "--report", str(report)], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.stderr
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    by_name = {cells[1]: cells[2:-1] for cells in rows if len(cells) > 2}
    assert [by_name[name][1] for name in ("slow", "fast")] == ["1.00", "1.00"]
    assert [by_name[name][4] for name in ("slow", "fast")] == ["1.00", "0.25"]
    assert [by_name[name][5] for name in ("slow", "fast")] == ["0", "30"]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert set(figures_of(report.read_text())) == {
        "rates",
        "slowest",
        "percentiles",
        "rate-over-time",
    }


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_is_drawn_also_without_curves(tmp_path: Path) -> None:
    """k6's summary has neither percentile curves nor seconds."""
    entries = read_entries([write(tmp_path / f"{name}.json", K6) for name in ("one", "two")])
    path = tmp_path / "page.html"
    path.write_text(comparison(entries, "devnest compare"), encoding="utf-8")
    assert drawn(path, tmp_path).count("<svg") == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no result"),
        (b'{"conditions"', "holds no result"),
        (b"\xff\x00", "holds no result"),
        (b"[" * 100_000, "holds no result"),
        (b"[]", "holds no result"),
        (b'{"metrics": {}}', "'http_reqs' is missing"),
        (b'{"metrics": {"http_reqs": {"count": "many", "rate": 1}}}', "holds no result"),
        (b'{"conditions": {}}', "holds no session"),
    ],
)
def test_what_holds_no_result_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadPlan, match=words):
        read_entries([path])


def test_one_result_or_a_report_over_a_result_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "one.json", K6)
    before = path.read_bytes()
    for arguments, words in (
        ([str(path)], "one result only"),
        ([str(path), str(path), "--report", str(path)], "would overwrite"),
        ([str(path), str(tmp_path / "none.json")], "cannot read"),
        ([str(path), str(tmp_path)], "cannot read"),
    ):
        result = CliRunner().invoke(app, ["compare", *arguments])
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    assert path.read_bytes() == before
