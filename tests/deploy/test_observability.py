"""The files of `deploy/observability/`, in a real Prometheus on a real DevNest under load."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from tests.cluster.test_management import management_of
from tests.load.test_report import BROWSER, drawn
from tests.metrics import named, requests, scrape, until
from tests.support import PASSWORD, PATIENCE_S, data_directory, eventually, http, running

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OR_0 = " or on() vector(0)"
QUIET = ("Queue", "Responses 429 and 503")
SIGN_IN = ("POST", "/api/v1/auth/login", 200)
SIGNED_IN = (
    'sum(http_server_request_duration_seconds_count{http_route="/api/v1/auth/login",'
    'http_response_status_code="200"})'
)
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="NOT TESTED: prometheus and promtool are not installed, so neither rules nor dashboard"
    " were run",
)


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of a file, in its order."""
    content = msgspec.yaml.decode((FILES / f"{kind}.rules.yml").read_bytes())
    return [rule for group in content["groups"] for rule in group["rules"]]


ALERTS = rules("alerts")


def test_every_alert_says_what_to_do() -> None:
    """And how long it waits, and how bad it is."""
    for alert in ALERTS:
        assert re.fullmatch(r"\d+m", alert["for"])
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert "$labels.instance" in alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")


def test_recorded_names_say_level_metric_and_operation() -> None:
    """As Prometheus' users expect; all that is recorded is used, and the other way round."""
    everything = [ALERTS, PANELS, [rule["expr"] for rule in rules("recording")]]
    recorded = {rule["record"] for rule in rules("recording")}
    form = r"instance(_[a-z]+)?:[a-z_]+:([a-z0-9]+_)?rate5m"
    assert [name for name in recorded if not re.fullmatch(form, name)] == []
    used = set(re.findall(r"instance[a-z_]*:[a-z_]+:\w+", json.dumps(everything)))
    assert used == recorded


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    """Names, conditions, waits and severity, without the selectors and sums."""
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    table = re.findall(r"^\| `(DevNest\w+)` \| `(.+?)` \| (\d+m) \| (\w+) \| .+ \|$", page, re.M)
    assert table == [
        (alert["alert"], plain(alert["expr"]), alert["for"], alert["labels"]["severity"])
        for alert in ALERTS
    ]


def plain(expression: str) -> str:
    """Without its selectors and its sum."""
    without = re.sub(r"\{.*?\}", "", expression)
    return re.sub(r"^sum by \(.*?\) \((.*)\) >", r"\1 >", without)


def test_every_panel_can_be_read() -> None:
    """It has a description, a unit and a place of its own, and looks at the chosen instances."""
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert DASHBOARD["panels"][0]["type"] == "row"
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            selectors = re.findall(r"\{(.*?)\}", target["expr"])
            assert selectors
            assert all('job="devnest", instance=~"$instance"' in each for each in selectors)


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    ["check config prometheus.yml", "test rules rules.test.yml"],
    ids=["config", "rules"],
)
def test_promtool_accepts_the_files(arguments: str) -> None:
    """The second runs the cases of every alert: one in which it fires, one in which not."""
    run = subprocess.run(
        ["promtool", *arguments.split()],  # noqa: S607
        cwd=FILES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    """Each names its annotations in full."""
    content = msgspec.yaml.decode((FILES / "rules.test.yml").read_bytes())
    cases = [case for test in content["tests"] for case in test.get("alert_rule_test", [])]
    for fires in (True, False):
        names = {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires}
        assert names == {alert["alert"] for alert in ALERTS}


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        answer = http.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, expression: str) -> list[float]:
        """What a query returns now, without what is no number."""
        expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
        found = self.ask("query", query=expression)["result"]
        return [number for each in found if (number := float(each["value"][1])) == number]

    def is_ready(self) -> bool:
        """Whether it answers."""
        with suppress(httpx.ConnectError):
            return http.get(f"{self.url}/-/ready").status_code == 200
        return False


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus on the files of the repository; only the target and the intervals are others."""
    shutil.copytree(FILES, directory / "files")
    path = directory / "files" / "prometheus.yml"
    text, count = re.subn(r"_interval: 15s", "_interval: 500ms", path.read_text())
    assert count == 2
    assert '"127.0.0.1:9000"' in text
    path.write_text(text.replace("127.0.0.1:9000", target))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "{}:{}".format(*free.getsockname())
    arguments = [f"--config.file={path}", f"--storage.tsdb.path={directory}/data"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *arguments, f"--web.listen-address={address}"],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        running = Prometheus(f"http://{address}")
        eventually(lambda: process.poll() is not None or running.is_ready())
        assert process.poll() is None, (directory / "log").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def drive(url: str) -> None:
    """A second of load."""
    options = ["--vus=4", "--duration=1s", "--set=think_s=0.05"]
    command = [sys.executable, "-m", "devnest", "load", url, *options]
    load = subprocess.run(command, capture_output=True, text=True, check=False)
    assert load.returncode == 0, load.stdout + load.stderr


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, which has seen a server of DevNest die, a sign-in fail and others succeed."""
    with (
        data_directory() as data_dir,
        # Nobody takes its traces, so that it counts those that are lost.
        running(
            data_dir,
            "--processes=2",
            "--management=127.0.0.1:0",
            "--otlp-endpoint=http://127.0.0.1:1",
        ) as devnest,
    ):
        management = management_of(devnest)
        target = urlsplit(management).netloc
        with prometheus(tmp_path_factory.mktemp("prometheus"), target) as seeing:
            eventually(lambda: seeing.values("sum(process_restarts_total)") == [0.0])
            named(scrape(management), "server-0")[0].kill()
            eventually(lambda: seeing.values("sum(process_restarts_total)") == [1.0])
            with devnest.client() as client:
                wrong = {"username": "nobody", "password": PASSWORD}
                assert client.post("/api/v1/auth/login", json=wrong).status_code == 401
            for _ in range(2):  # the second grows what Prometheus saw of the first
                drive(devnest.url)
                page = until(management, lambda page: requests(page, *SIGN_IN) > 0)
                signed_in = [requests(page, *SIGN_IN)]
                eventually(lambda: seeing.values(SIGNED_IN) >= signed_in)  # noqa: B023
            yield seeing


@needs_prometheus
def test_every_query_of_the_dashboard_returns_data(watched: Prometheus) -> None:
    """As Grafana asks, with its variables replaced."""
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(queries) > 40
    returns_data(watched, queries)
    # These show 0 where nothing happened: what did happen here is found without that.
    happened = [
        target["expr"].removesuffix(OR_0)
        for panel in PANELS
        for target in panel["targets"]
        if target["expr"].endswith(OR_0) and panel["title"] not in QUIET
    ]
    assert len(happened) == 6
    returns_data(watched, happened)
    (restarts,) = [panel for panel in PANELS if panel["title"] == "Restarts"]
    assert sum(watched.values(restarts["targets"][0]["expr"])) > 0


@needs_prometheus
def test_every_query_of_the_rules_returns_data(watched: Prometheus) -> None:
    """What an alert compares exists before anything is wrong."""
    compared = [re.fullmatch(r"(.+) (?:==|>) [\d.]+", alert["expr"]) for alert in ALERTS]
    returns_data(watched, [found[1] if found else "" for found in compared])
    returns_data(watched, [rule["record"] for rule in rules("recording")])
    groups = watched.ask("rules")["groups"]
    told = [rule for group in groups for rule in group["rules"]]
    assert len(told) == len(ALERTS) + len(rules("recording"))
    eventually(
        lambda: all(
            rule["health"] == "ok"
            for group in watched.ask("rules")["groups"]
            for rule in group["rules"]
        )
    )


def returns_data(watched: Prometheus, queries: list[str]) -> None:
    """Wait until each has, some at the next scrape; the others are named."""
    missing = queries

    def all_do() -> bool:
        missing[:] = [query for query in missing if not watched.values(query)]
        return not missing

    try:
        eventually(all_do)
    except AssertionError:
        pytest.fail("no data: " + "; ".join(missing))


@needs_prometheus
@pytest.mark.skipif(BROWSER is None, reason="NOT TESTED: no Chromium on this machine")
def test_every_panel_is_drawn_without_grafana(watched: Prometheus, tmp_path: Path) -> None:
    """A page of the project's own, for whoever has no Grafana: each panel has its lines."""
    path = tmp_path / "panels.html"
    run = panels(watched.url, str(path), "--minutes=5")
    assert run.returncode == 0, run.stderr
    shown = drawn(path, tmp_path)
    assert shown.count("<svg") == len([each for each in PANELS if each["type"] == "timeseries"])
    (queue,) = [panel for panel in PANELS if panel["title"] == "Batch size"]
    part = shown.partition(f'id="panel-{queue["id"]}"')[2].partition("</figure>")[0]
    assert "mean" in part
    assert "NaN" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1", "x.html"], "Connection refused"),
        (["file:///etc/passwd", "x.html"], "no http:// or https:// address"),
        (["http://127.0.0.1:1", "x.html", "--minutes=0"], "more than 0"),
    ],
)
def test_panels_that_cannot_be_drawn_are_told_in_words(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    run = panels(*arguments, cwd=tmp_path)
    assert run.returncode != 0
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


def panels(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program that draws the panels."""
    return subprocess.run(
        [sys.executable, FILES / "panels.py", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
