"""Traces of a real DevNest, at a collector that decodes what it is sent."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector import Collector, attributes_of, collecting
from tests.metrics import scrape, total
from tests.support import PASSWORD, DevNest, eventually, running, sign_up

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{ABOVE}-01", f"00-{TRACE}-{ABOVE}-00"


@contextmanager
def traced(data_dir: Path, *options: str) -> Iterator[tuple[DevNest, Collector]]:
    """A DevNest that traces every request, and its collector."""
    with (
        collecting() as collector,
        running(
            data_dir, f"--otlp-endpoint={collector.url}", "--trace-sampling=1", *options
        ) as devnest,
    ):
        yield devnest, collector


def server_spans(collector: Collector, name: str) -> list[Span]:
    """The spans of requests with a name."""
    return [
        span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER and span.name == name
    ]


def below(spans: list[Span], parent: Span) -> list[Span]:
    """The spans whose parent is this one."""
    return [span for span in spans if span.parent_span_id == parent.span_id]


def request_lines(log: str) -> list[dict[str, Any]]:
    """The lines of requests in a log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.parametrize("hashing", ["pool", "thread", "inline"])
def test_a_sign_in_is_one_trace(data_dir: Path, username: str, hashing: str) -> None:
    """Request, queries, hash, and in the pool its wait and its run; no secret is in it."""
    with traced(data_dir, f"--hashing={hashing}") as (devnest, collector):
        with devnest.client() as client:
            token = sign_up(client, username)
        eventually(lambda: bool(server_spans(collector, "POST /api/v1/auth/login")))
    (login,) = server_spans(collector, "POST /api/v1/auth/login")
    port = int(devnest.url.rpartition(":")[2])
    assert attributes_of(login) == {
        "http.request.method": "POST",
        "http.route": "/api/v1/auth/login",
        "http.response.status_code": 200,
        "url.path": "/api/v1/auth/login",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert (login.parent_span_id, login.status.code) == (b"", Status.STATUS_CODE_UNSET)
    spans = collector.trace(login.trace_id.hex())
    inside = {span.name: span for span in below(spans, login)}
    assert {"SELECT accounts", "hash password", "group commit"} <= set(inside)
    select = inside["SELECT accounts"]
    assert select.kind == Span.SPAN_KIND_CLIENT
    assert attributes_of(select) == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT accounts",
    }
    hashing_span = inside["hash password"]
    parts = below(spans, hashing_span)
    assert [span.name for span in parts] == (["pool wait", "pool run"] if hashing == "pool" else [])
    if parts:
        wait, run = parts
        assert abs(wait.end_time_unix_nano - run.start_time_unix_nano) < 1e6
        assert run.end_time_unix_nano > run.start_time_unix_nano
        assert wait.end_time_unix_nano >= wait.start_time_unix_nano
    for span in spans:
        assert login.start_time_unix_nano - 5e6 <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    (resource,) = {json.dumps(each, sort_keys=True) for each in collector.resources}
    assert json.loads(resource)["service.name"] == "devnest"
    everything = "".join(map(str, collector.spans))
    assert not any(secret in everything for secret in (PASSWORD, token, f"{username}@"))


def test_a_callers_trace_goes_on(data_dir: Path) -> None:
    """Its ids and its decision are taken up; what is malformed is not, nor is it an error."""
    wrong = [
        [SAMPLED, SAMPLED],
        [SAMPLED.upper()],
        [f"ff{SAMPLED[2:]}"],
        [f"{SAMPLED}-more"],
        [f"00-{'0' * 32}-{ABOVE}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"01{SAMPLED[2:]}-{'x' * 5000}"],
        [""],
    ]
    with traced(data_dir) as (devnest, collector), devnest.client() as client:
        for given in ([SAMPLED], [UNSAMPLED], [f"01{SAMPLED[2:]}-later"], *wrong):
            headers = [("traceparent", value) for value in given]
            assert client.get("/api/v1/tags", headers=headers).status_code == 200
    spans = server_spans(collector, "GET /api/v1/tags")
    followed = [span for span in spans if span.trace_id.hex() == TRACE]
    assert [span.parent_span_id.hex() for span in followed] == [ABOVE, ABOVE]
    assert len(spans) == 2 + len(wrong)
    lines = request_lines(devnest.log())
    assert [line["trace_id"] == TRACE for line in lines] == [True] * 3 + [False] * len(wrong)
    assert {line["trace_id"] for line in lines} >= {span.trace_id.hex() for span in spans}


def test_the_log_has_a_callers_trace_without_tracing(data_dir: Path) -> None:
    """And no id where the caller has none, or a malformed one."""
    with running(data_dir) as devnest, devnest.client() as client:
        for headers in ({"traceparent": UNSAMPLED}, {}, {"traceparent": "00-nonsense"}):
            client.get("/api/v1/tags", headers=headers)
    lines = request_lines(devnest.log())
    assert [line.get("trace_id") for line in lines] == [TRACE, None, None]


def test_requests_that_find_nothing_and_strange_ones(data_dir: Path) -> None:
    """No id and no text of a client becomes the name of a span, and each can be encoded."""
    with traced(data_dir) as (devnest, collector), devnest.client() as client:
        client.get("/no/such/page")
        client.request("PROPFIND", "/healthz")
        client.head("/api/v1/tags")
        client.get("/api/v1/%ff%fe", headers=[(b"host", "a b\u00e9".encode())])
        client.get("/" + "x" * 9000)
    server = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.name for span in server][:3] == ["GET", "HTTP", "HEAD /api/v1/tags"]
    assert attributes_of(server[1])["http.request.method"] == "_OTHER"
    assert max(len(attributes_of(span)["url.path"]) for span in server) == 1024
    assert "server.address" not in attributes_of(server[3])


def test_nothing_is_recorded_that_is_not_sampled(data_dir: Path) -> None:
    """A share of 0 records what its caller records, and nothing else."""
    with traced(data_dir, "--trace-sampling=0") as (devnest, collector), devnest.client() as client:
        for headers in ({}, {"traceparent": UNSAMPLED}, {"traceparent": SAMPLED}):
            client.get("/api/v1/tags", headers=headers)
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert len(server_spans(collector, "GET /api/v1/tags")) == 1


def test_a_failed_request_says_why(data_dir: Path) -> None:
    """A 503 for the database: the server's span has the status as its error."""
    with traced(data_dir) as (devnest, collector), devnest.client() as client:
        devnest.query("ALTER TABLE posts RENAME TO hidden")
        assert client.get("/api/v1/posts").status_code >= 500
        devnest.query("ALTER TABLE hidden RENAME TO posts")
    (span,) = server_spans(collector, "GET /api/v1/posts")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(span)["error.type"]
    (query,) = [each for each in below(collector.spans, span) if each.name == "SELECT posts"]
    assert attributes_of(query)["error.type"] == "42P01"


@pytest.mark.parametrize("collector", ["refuses", "away", "silent"])
def test_a_collector_that_takes_nothing_harms_nobody(data_dir: Path, collector: str) -> None:
    """Requests are answered, the stop is not delayed, one line says so and spans are counted."""
    with socket.create_server(("127.0.0.1", 0)) as silent, collecting() as refusing:
        refusing.status = 400
        port = silent.getsockname()[1]
        if collector == "away":
            silent.close()
        url = refusing.url if collector == "refuses" else f"http://user:geheim@127.0.0.1:{port}"
        with running(data_dir, f"--otlp-endpoint={url}", "--trace-sampling=1") as devnest:
            with devnest.client() as client:
                for _ in range(20):
                    assert client.get("/api/v1/tags").status_code == 200
            if collector == "refuses":
                metric, lost = "trace_spans_total", {"result": "lost"}
                eventually(lambda: total(scrape(devnest.url), metric, **lost) >= 20)
            started = time.monotonic()
            assert devnest.stop() == 0
            assert time.monotonic() - started < 60
    log = devnest.log()
    assert log.count("the collector takes no spans") == (collector == "refuses")
    assert "geheim" not in log
    assert "Traceback" not in log
    assert threading.active_count() < 50
