"""Thresholds: k6's syntax, and what a run says to them."""

from array import array

import msgspec
import pytest

from devnest.load import BadPlan, Result
from devnest.load.messages import Second
from devnest.load.summary import exported, summary
from devnest.load.tally import Tally
from devnest.load.thresholds import parse_threshold
from devnest.load.trend import Trend


@pytest.fixture
def result() -> Result:
    """100 sign-ins of 1 to 100 ms, one in ten of them failed; 50 posts of 2 ms; four seconds."""
    tally = Tally()
    for number in range(1, 101):
        failed = number % 10 == 0
        tally.request("login", 500 if failed else 200, not failed, number / 1000)
        tally.check("login has the right status", not failed)
    for _ in range(50):
        tally.request("post", 201, True, 0.002)
        tally.iterations.append(0.5)
    tally.error("login", "status 500")
    tally.dropped = 3
    tally.sent_bytes, tally.received_bytes = 15_000, 2_500_000
    result = Result(url="http://127.0.0.1:1", profile="experiment", generators=1, seed=1)
    result.absorb(0, Second(0, 20, 0.4, 4.0, 0.0, tally.take()))
    result.finish()
    return result


HOLD = [
    "http_req_duration: p(95)<100",
    "http_req_duration{name:login}: p(50)>=50",
    "http_req_duration{name:login}: p(90)<91",
    'http_req_duration{name:"login"}: avg>50',
    "http_req_duration{name:'login', status:200}: avg>50",
    "http_req_duration{ name:login }:max<=100",
    "http_req_duration{name:post}: med<3",
    "http_req_duration{name:login,status:500}: min===10",
    "http_req_duration{expected_response:false}: min>9",
    "http_reqs: count==150",
    "http_reqs: rate>37",
    "http_reqs{status:404}: count==0",
    "http_req_failed{name:login}: rate==0.1",
    "http_req_failed{name:post}: rate<0.01",
    "http_req_failed{expected_response:true}: rate==0",
    "checks: rate>=0.9",
    "checks{check:login has the right status}: rate!=1",
    "iterations: count==50",
    "iteration_duration: p(99.9)<501",
    "dropped_iterations: count<=3",
    "data_received: count>2000000",
    "data_sent: rate==3750",
    "vus: value==20",
    "vus_max: value==20",
]
FAIL = [
    "http_req_duration: p(95)<50",
    "http_req_failed: rate<0.01",
    "checks: rate==1",
    "dropped_iterations: count<1",
    # nothing was measured, which is no success
    "http_req_duration{name:lgoin}: p(95)<500",
    "http_req_failed{name:lgoin}: rate<0.5",
    "http_req_connecting: avg<1",
]
WRONG = [
    "http_req_duration",
    "p(95)<500",
    "http_req_duration: p(95)",
    "http_req_duration: p(95)<fast",
    "http_req_duration: p(101)<500",
    "http_req_duration: p(1.2.3)<500",
    "http_req_duration: p95<500",
    "http_req_duration: rate<1",
    "http_req_duration: p(95)<>500",
    "http_req_duration{route:login}: p(95)<500",
    "http_req_duration{name}: p(95)<500",
    "http_req_duration{status:ok}: p(95)<500",
    "http_req_duration{expected_response:maybe}: p(95)<500",
    "iterations{name:login}: count>1",
    "vus: count>1",
    "http_requests: count>1",
    "http_req_failed: rate<nan",
    "http_req_duration: p(95)<inf",
    "http_reqs: count>1_000",
    "http_req_duration{name:login,name:post}: p(95)<500",
]


@pytest.mark.parametrize("text", HOLD)
def test_a_threshold_that_holds(result: Result, text: str) -> None:
    assert parse_threshold(text).judge(result).ok


@pytest.mark.parametrize("text", FAIL)
def test_a_threshold_that_fails(result: Result, text: str) -> None:
    assert not parse_threshold(text).judge(result).ok


@pytest.mark.parametrize("text", WRONG)
def test_a_threshold_nobody_can_judge_is_refused(text: str) -> None:
    with pytest.raises(BadPlan):
        parse_threshold(text)


def test_the_export_has_k6_s_shape(result: Result) -> None:
    """Names and nesting as k6 writes them; among thresholds, true means failed."""
    verdicts = [
        parse_threshold(text).judge(result)
        for text in ("http_req_duration{name:login}: p(95)<10", "checks: rate>0.5")
    ]
    data = msgspec.json.decode(msgspec.json.encode(exported(result, verdicts)))
    metrics = data["metrics"]
    assert set(metrics["http_req_duration"]) == {
        "avg",
        "min",
        "med",
        "max",
        "p(90)",
        "p(95)",
        "p(99)",
    }
    assert metrics["http_req_duration{name:login}"]["thresholds"] == {"p(95)<10": True}
    assert metrics["checks"] == {
        "passes": 90,
        "fails": 10,
        "value": 0.9,
        "thresholds": {"rate>0.5": False},
    }
    assert metrics["http_req_failed"] == {"passes": 10, "fails": 140, "value": 10 / 150}
    assert metrics["http_reqs"] == {"count": 150, "rate": 37.5}
    assert metrics["vus"] == {"value": 20, "min": 20, "max": 20}
    assert "http_req_duration{expected_response:true}" in metrics
    group = data["root_group"]
    assert (group["name"], group["path"], group["id"]) == (
        "",
        "",
        "d41d8cd98f00b204e9800998ecf8427e",
    )
    check = group["checks"]["login has the right status"]
    assert (check["path"], check["passes"], check["fails"]) == (
        "::login has the right status",
        90,
        10,
    )
    assert data["devnest"]["statuses"]["login"] == {"200": 90, "500": 10}


def test_the_summary_tells_the_same(result: Result) -> None:
    text = summary(result, [parse_threshold("checks: rate==1").judge(result)])
    for words in (
        "✗ checks: rate==1 (rate=0.9)",
        "login has the right status: 10 of 100",
        "http_req_failed.........: 6.67% 10 out of 150",
        "data_received...........: 2.5 MB 625.0 kB/s",
        "200:90 500:10",
        "login: status 500 (1)",
        "dropped_iterations......: 3",
    ):
        assert words in text


def test_a_busy_generator_voids_the_run_in_words(result: Result) -> None:
    assert "void" not in summary(result)
    for ordinal in range(1, 11):
        result.absorb(0, Second(ordinal, 20, 0.85, 1.0, 0.0, Tally().take()))
    assert result.is_void
    assert "This run is void" in summary(result)


def test_a_trend_of_parts_is_the_trend_of_the_whole() -> None:
    """Percentiles within the histogram's 0.1 %, the rest exact."""
    whole, parts = Trend(), [Trend(), Trend(), Trend()]
    values = array("d", [number**2 / 1e5 for number in range(1, 1000)])
    whole.add(values)
    for index, part in enumerate(parts):
        part.add(values[index::3])
    merged = Trend.of(parts)
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.avg == pytest.approx(sum(values) / len(values) * 1000)
    for percent in (1, 50, 95, 99.9, 100):
        exact = sorted(values)[max(0, -(-len(values) * percent // 100).__floor__() - 1)] * 1000
        assert merged.percentile(percent) == pytest.approx(exact, rel=0.003)


@pytest.mark.parametrize(
    "name",
    [
        "GET /posts/{id}",
        "{}",
        "}: p(95)<1",
        "a,b",
        "a, status:200",
        "it's",
        'say "so"',
        "a:b",
        "{a},{b}",
        "é",
    ],
)
def test_a_name_may_hold_what_the_syntax_uses(name: str) -> None:
    """Braces as they are, commas in quotes.

    What is exported under the threshold's key is read as the same again.
    """
    quote = "'" if '"' in name else '"'
    read = parse_threshold(f"http_req_duration{{name:{quote}{name}{quote},status:200}}: p(95)<500")
    assert (dict(read.tags), read.condition) == ({"name": name, "status": "200"}, "p(95)<500")
    assert parse_threshold(f"{read.key}: {read.condition}") == read


@pytest.mark.parametrize("name", ["GET /posts/{id}", "{}", "it's", 'say "so"', "a:b"])
def test_a_name_without_commas_needs_no_quotes(name: str) -> None:
    """As k6 takes it."""
    assert dict(parse_threshold(f"http_req_duration{{name:{name}}}: avg<1").tags) == {"name": name}
