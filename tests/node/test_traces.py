"""One job's whole story, as a collector is told it by an api node and a worker node; and one that tells nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.node.node_process import running
from tests.spans import CALLER

pytestmark = pytest.mark.process


class Collector:
    """Takes traces by OTLP over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.services: set[tuple[str, str]] = set()
        self._news = asyncio.Condition()

    async def receive(self, request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest.FromString(await request.read())
        async with self._news:
            for resource in told.resource_spans:
                about = attributes(resource.resource)
                self.services.add((about["service.name"], about["service.instance.id"]))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._news.notify_all()
        return web.Response()

    async def until(self, **counts: int) -> None:
        """Until there are so many spans whose names begin so."""

        def enough() -> bool:
            return all(len(self.named(name)) >= count for name, count in counts.items())

        try:
            async with asyncio.timeout(30), self._news:
                await self._news.wait_for(enough)
        except TimeoutError:
            raise AssertionError([span.name for span in self.spans]) from None

    def named(self, name: str) -> list[Span]:
        """In the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


def attributes(told: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in told.attributes}


def links(span: Span) -> list[tuple[bytes, bytes]]:
    return [(link.trace_id, link.span_id) for link in span.links]


def place(span: Span) -> tuple[bytes, bytes]:
    return span.trace_id, span.span_id


async def test_the_story_of_a_job_across_two_nodes(collector: Collector, valkey_url: str, namespace: str) -> None:
    """From its caller's trace to the run of what followed; the log lines name the traces."""
    shared = {
        "REDIS_URL": valkey_url,
        "GOPHER_NAMESPACE": namespace,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "WORKER_RETRY_BASE": "0",
    }
    flags = ["--handlers=tracing", "--types=ship,tell"]
    async with running("--role=api", **shared) as api, running("--role=worker", *flags, **shared) as worker:
        headers = {"traceparent": CALLER, "Authorization": "Bearer s3cret"}
        await api.request("GET", "/api/v1/jobs?tag=s3cret", headers=headers)
        status, job = await api.request("POST", "/api/v1/jobs", json={"type": "ship"}, headers=headers)
        assert status == 201, job
        ended = await worker.logged(lambda line: line.get("msg") == "job.finished" and line["job_type"] == "tell")
        # What handlers in processes of their own say comes by itself; all else is flushed when the nodes end.
        await collector.until(write=1)
        assert await worker.stop() == 0
        assert await api.stop() == 0
        lines = worker.log

    (server,), (send,) = map(collector.named, ("POST /api/v1/jobs", "send ship"))
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (CALLER[3:35], CALLER[36:52])
    assert (send.trace_id, send.parent_span_id) == place(server)
    failure, success = collector.named("process ship")
    assert links(failure) == links(success) == [place(send)]
    assert len({failure.trace_id, success.trace_id, send.trace_id}) == 3
    assert (failure.status.code, success.status.code) == (Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET)
    assert attributes(failure)["error.type"] == "OSError"
    settled = collector.named("settle ship")
    assert [(span.trace_id, span.parent_span_id) for span in settled] == [place(failure), place(success)]
    assert [attributes(span)["messaging.operation.name"] for span in settled] == ["nack", "ack"]
    assert [(span.trace_id, span.parent_span_id) for span in collector.named("pack")] == [
        place(failure),
        place(success),
    ]
    (follow_up,), (told,), (write,) = map(collector.named, ("send tell", "process tell", "write"))
    assert (follow_up.trace_id, follow_up.parent_span_id) == place(success)
    assert links(told) == [place(follow_up)]
    assert (write.trace_id, write.parent_span_id) == place(told)
    named = [(line["trace_id"], line["span_id"]) for line in lines if line["msg"] == "job.finished"]
    assert named == [(span.trace_id.hex(), span.span_id.hex()) for span in (failure, success, told)]
    assert ended["trace_id"] == told.trace_id.hex()
    assert {line["trace_id"] for line in lines if line["msg"] == "packed"} == {
        span.trace_id.hex() for span in (failure, success)
    }
    assert {line["trace_id"] for line in lines if line["msg"] == "told"} == {told.trace_id.hex()}
    assert not any("trace_id" in line for line in lines if line["msg"] == "node.started")
    assert {service for service, _ in collector.services} == {"shop"}
    assert {node for _, node in collector.services} == {api.log[0]["node_id"], worker.log[0]["node_id"]}
    assert not any("s3cret" in str(span) for span in collector.spans)


async def test_a_collector_that_is_away_delays_nothing(valkey_url: str, namespace: str) -> None:
    """The node works, says so once, and ends in time."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "TRACING_ENDPOINT": "http://127.0.0.1:9"}
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    async with running("--handlers=userjobs", **shared, **quick) as node:
        job = await node.submit("flaky", {"fails": 1})
        assert (await node.ended(job["job_id"]))["status"] == "completed"
        await node.logged(lambda line: line["msg"] == "traces.lost")
        await node.submit("flaky", {"fails": 1})
        began = time.monotonic()
        assert await node.stop() == 0
        took = time.monotonic() - began

    stopped = next(line for line in node.log if line["msg"] == "node.stopped")
    assert stopped["logger"] == "gopher_node.node"
    assert took < 10  # of which at most two are for the traces
    assert len([line for line in node.log if line["msg"] == "traces.lost"]) == 1
    assert not [line for line in node.log if line.get("logger", "").startswith(("opentelemetry", "urllib3"))]
