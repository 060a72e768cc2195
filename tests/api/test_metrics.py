"""/metrics: on every role, for whom, in which form, and while the store is slow or away."""

import asyncio
import gzip
import threading
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from gopher_node.api.resources import metrics
from gopher_node.errors import StoreUnavailable
from gopher_node.settings import Settings

KEY = "k" * 32
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}


async def scrape(api, **options):
    """Each sample by its name and its labels' values, in the order of their names."""
    answer = await api.get("/metrics", **options)
    assert answer.status == 200, answer.body
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
    }


async def until(true):
    """Each turn of the loop brings it nearer."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0)


@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_every_role_is_scraped(serve, role):
    """Each role tells of itself and of the whole system, also beside its base path."""
    api = await serve(role=role, base_path="/jobs")
    # As whoever probes a node asks it, beside the proxy that the prefix is for.
    beside = await api.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert beside.status == 200
    assert beside.headers["Content-Type"].startswith("text/plain; version=")
    found = await scrape(api)
    assert found["gopher_node_ready",] == 1
    assert found["gopher_redis_up",] == 1
    assert found["gopher_redis_connections_max", "requests"] == 16
    assert found["gopher_store_memory_bytes",] > 0
    assert found["process_resident_memory_bytes",] > 0


async def test_openmetrics_and_gzip(api):
    """Prometheus gets what it prefers; it ends as OpenMetrics does."""
    async with api.session.get(api.server.url + "/metrics", headers=PROMETHEUS) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert response.headers["Content-Encoding"] == "gzip"
        assert (await response.read()).endswith(b"# EOF\n")
    plain = await api.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert "Content-Encoding" not in plain.headers
    zipped = await api.exchange(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    )
    assert b"gopher_build_info" in gzip.decompress(zipped.body)


async def test_a_node_that_goes_on_does_not_look_restarted(api):
    """Its start stays the same to the last digit, for alerts count the changes."""
    starts = {(await scrape(api))["gopher_node_start_time_seconds",] for _ in range(3)}
    assert len(starts) == 1


async def test_it_needs_the_scope_read(serve):
    """With keys in force a scrape shows one with the scope read; a key for something else is not enough."""
    other = "o" * 32
    api = await serve(api_keys=f"{KEY}:read,{other}:submit")
    assert (await api.get("/metrics")).problem == "unauthenticated"
    assert (await api.get("/metrics", headers={"X-API-Key": other})).problem == "forbidden"
    assert (await api.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})).status == 200


async def test_it_may_be_open_to_all(serve):
    """With METRICS_ANONYMOUS=true it needs no key, and all else does."""
    assert Settings.load({}, {"METRICS_ANONYMOUS": "true"}).metrics.anonymous
    api = await serve(api_keys=f"{KEY}:read", metrics_anonymous=True)
    assert (await api.get("/metrics")).status == 200
    assert (await api.get("/api/v1/stats")).problem == "unauthenticated"


async def test_requests_are_measured_by_their_route(api):
    """By pattern and status class, problems and streams too; whatever path there is none of is one route."""
    id = await api.submit()
    for path in (f"/api/v1/jobs/{id}", "/api/v1/jobs/5f0c8f4e-0000-4000-8000-000000000000", "/none", "/none/either"):
        await api.get(path)
    await api.call("PURGE", "/coffee")
    await api.call(
        "POST", "/api/v1/jobs/bulk", data=b'{"type":"unserved"}\n', headers={"Content-Type": "application/x-ndjson"}
    )
    async with api.session.get(f"{api.server.url}/api/v1/jobs/{id}/events") as stream:
        await stream.content.readany()
        # The stream is not at its end.
        found = await scrape(api)
        assert found["gopher_http_requests_in_progress",] == 2

    counts = {key[1:]: count for key, count in found.items() if key[0] == "gopher_http_request_duration_seconds_count"}
    assert counts == {
        ("POST", "/api/v1/jobs", "2xx"): 1,
        ("GET", "/api/v1/jobs/{job_id}", "2xx"): 1,
        ("GET", "/api/v1/jobs/{job_id}", "4xx"): 1,
        ("GET", "unknown", "4xx"): 2,
        ("other", "unknown", "4xx"): 1,
        ("POST", "/api/v1/jobs/bulk", "2xx"): 1,
    }


async def test_jobs_are_counted_and_queues_are_read(api):
    """A job that is stored here is counted at once, and the queue is seen by the next look at the store."""
    await api.submit(type="mail", priority="high")
    found = await scrape(api)
    assert found["gopher_jobs_created_total", "mail"] == 1
    assert found["gopher_queue_depth", "high", "mail"] == 1
    assert found["gopher_snapshot_age_seconds",] < metrics.FRESH
    assert found["gopher_store_durability", api.store.durability] == 1


@dataclass
class Watched:
    """How often the store was looked at, and what looks end in."""

    looks: int = 0
    ends: type[Exception] | None = None


@pytest.fixture
async def watched(api, monkeypatch):
    take = api.store.snapshots.take
    watch = Watched()

    async def look(most):
        watch.looks += 1
        if watch.ends is not None:
            raise watch.ends
        return await take(most)

    monkeypatch.setattr(api.store.snapshots, "take", look)
    return watch


async def test_the_store_is_not_read_at_every_scrape(api, watched, monkeypatch):
    """What was read within some seconds is told again; later it is read anew."""
    for _ in range(3):
        await scrape(api)
    assert watched.looks == 1
    monkeypatch.setattr(metrics, "FRESH", 0.0)
    await scrape(api)
    assert watched.looks == 2


async def test_while_the_store_is_away(api, watched, monkeypatch):
    """The last that was read is told, with its age, for a while; then only what the node knows by itself."""
    await api.submit(type="mail")
    await scrape(api)
    watched.ends = StoreUnavailable
    monkeypatch.setattr(metrics, "FRESH", 0.0)
    found = await scrape(api)
    assert found["gopher_queue_depth", "normal", "mail"] == 1
    monkeypatch.setattr(metrics, "KEPT", 0.0)
    found = await scrape(api)
    assert found["gopher_jobs_created_total", "mail"] == 1
    assert not [key for key in found if key[0] in ("gopher_queue_depth", "gopher_snapshot_age_seconds")]


async def test_a_store_that_says_nothing_holds_nobody_up(api, monkeypatch):
    """A scrape waits only so long for the store."""
    monkeypatch.setattr(metrics, "PATIENCE", 0.01)
    monkeypatch.setattr(api.store.snapshots, "take", lambda most: asyncio.Event().wait())
    assert ("gopher_build_info", "all") in {key[:1] + key[2:3] for key in await scrape(api)}


async def test_scrapes_that_come_together_share_the_work(api, monkeypatch):
    """Never are two made at once. Those that come while one is made get one text, which is begun after they came."""
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), threading.Event()
    under_way, most, rendered = 0, 0, 0
    render = metrics.Scrapes._render

    def count(self, form):
        nonlocal under_way, most, rendered
        under_way += 1
        rendered, most = rendered + 1, max(most, under_way)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(20)
        text = render(self, form)
        under_way -= 1
        return text

    monkeypatch.setattr(metrics.Scrapes, "_render", count)
    first = asyncio.create_task(scrape(api))
    await begun.wait()
    others = [asyncio.create_task(scrape(api)) for _ in range(5)]
    await until(lambda: api.events.measures.http_in_progress == 6)
    # Whoever goes away leaves the work to be done, and the others waiting for their turn.
    first.cancel()
    others[0].cancel()
    await until(lambda: api.events.measures.http_in_progress == 4)
    go_on.set()
    await asyncio.gather(*others[1:])
    assert (rendered, most) == (2, 1)
