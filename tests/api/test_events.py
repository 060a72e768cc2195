"""Following a job as a stream of events."""

import asyncio
import json

import pytest

from gopher_node.job import JobError
from gopher_node.store import Pool


class Events:
    """A client that listens."""

    def __init__(self, response):
        self.response = response

    async def next(self):
        """An event's name, its job and its id; a comment as its text; None at the end."""
        fields = {}
        while text := (await asyncio.wait_for(self.response.content.readline(), 10)).decode():
            name, _, value = text.rstrip("\r\n").partition(":")
            if not text.strip():
                if fields:
                    return (fields["event"], json.loads(fields["data"]), fields.get("id"))
            elif name:
                fields[name] = value.removeprefix(" ")
            else:
                return value.strip()
        return None


@pytest.fixture
async def follow(api):
    """Follows a job; further arguments are the request's."""
    opened = []

    async def start(job_id, on=api, **options):
        response = await on.session.get(f"{on.server.url}/api/v1/jobs/{job_id}/events", **options)
        opened.append(response)
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] in ("no-cache", "no-store")
        return Events(response)

    yield start
    for response in opened:
        response.close()


async def claim(api, type="unserved"):
    session = await api.store.open_session("node-1", 15.0)
    (lease,) = (await api.store.claim(session, Pool.of([type]), 1)).leases
    return lease


async def test_a_life(api, follow):
    """Each change is an event with the job as it is then, named after its status; after the last, the stream ends."""
    job_id = await api.submit(delay="1h")
    events = await follow(job_id)

    name, job, id = await events.next()
    assert (name, job["status"], id) == ("scheduled", "scheduled", None)
    assert job == (await api.get(f"/api/v1/jobs/{job_id}")).json
    await api.store.run_now(job_id)
    assert (await events.next())[0] == "enqueued"
    lease = await claim(api)
    assert (await events.next())[0] == "processing"
    await api.store.progress(lease, b'{"fraction":0.5}')
    name, job, _ = await events.next()
    assert (name, job["progress"]) == ("progress", {"fraction": 0.5})
    await api.store.complete(lease, b'"line 1\\nline 2"')
    name, job, id = await events.next()
    assert (name, job["result"], id) == ("completed", "line 1\nline 2", "ended")
    assert await events.next() is None


async def test_a_retry_is_followed_too(api, follow):
    """An attempt that failed is an event, and the stream goes on until the job has ended for good."""
    job_id = await api.submit(retries=1)
    lease = await claim(api)
    events = await follow(job_id)
    assert (await events.next())[0] == "processing"

    await api.store.retry(lease, JobError("boom", "first").encode(), 3600)
    name, job, _ = await events.next()
    assert (name, job["errors"], job["attempts"][0]["error"]["message"]) == ("scheduled", 1, "first")
    await api.store.cancel(job_id)
    assert (await events.next())[0] == "cancelled"
    assert await events.next() is None


async def test_a_job_that_has_ended(api, follow):
    """A job that has ended is shown once; who knows that already is told not to come back."""
    job_id = await api.submit()
    await api.store.cancel(job_id)

    events = await follow(job_id)
    name, _, id = await events.next()
    assert (name, id) == ("cancelled", "ended")
    assert await events.next() is None

    again = await api.get(f"/api/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "ended"})
    assert (again.status, again.body) == (204, b"")


@pytest.mark.parametrize("last", ["ended", "7", "\u00e4"])
async def test_who_comes_again_is_shown_the_job_as_it_is(api, follow, last):
    """Of a job that goes on, the first event says all that may have been missed."""
    events = await follow(await api.submit(), headers={"Last-Event-ID": last})

    assert (await events.next())[0] == "enqueued"


async def test_a_deleted_job_ends_the_stream(api, follow):
    """There is nothing more to tell of a job that is gone."""
    job_id = await api.submit()
    events = await follow(job_id)
    await events.next()

    await api.store.delete(job_id)

    assert await events.next() is None


@pytest.mark.parametrize("job_id", ["00000000-0000-4000-8000-000000000000", "nonsense", "%00"])
async def test_no_such_job(api, job_id):
    """An unknown job is a problem and no stream."""
    answer = await api.get(f"/api/v1/jobs/{job_id}/events")

    assert (answer.status, answer.problem) == (404, "job-not-found")


async def test_pings(api, follow, monkeypatch):
    """A stream on which nothing happens has a comment now and then."""
    monkeypatch.setattr("gopher_node.api.resources.events.PING", 0.05)
    job_id = await api.submit()
    events = await follow(job_id)
    await events.next()

    assert await events.next() == "ping"
    await api.store.cancel(job_id)
    while (event := await events.next()) == "ping":
        pass
    assert event[0] == "cancelled"


async def test_draining_ends_a_stream(api, follow):
    """A node that shuts down ends the stream, so that its client goes to another."""
    events = await follow(await api.submit())
    await events.next()

    api.server.drain()

    assert await events.next() is None


async def test_many_follow_one_job(api, follow):
    """All that follow a job see its end."""
    job_id = await api.submit()
    streams = [await follow(job_id) for _ in range(20)]
    for events in streams:
        assert (await events.next())[0] == "enqueued"

    await api.store.cancel(job_id)

    for events in streams:
        assert (await events.next())[0] == "cancelled"
        assert await events.next() is None


async def test_a_client_that_goes_is_forgotten(api, follow):
    """A stream ends with its client's connection."""
    events = await follow(await api.submit())
    await events.next()

    events.response.close()

    async with asyncio.timeout(10):
        while api.server.connections:
            await api.store.ping()


async def test_a_failure_on_the_way_ends_the_stream(api, follow, monkeypatch):
    """If the job cannot be followed any more the stream ends, and whoever listens may come again."""
    real = api.store.follow

    async def follow_once(job_id):
        async for job in real(job_id):
            yield job
            raise RuntimeError("secret")

    monkeypatch.setattr(api.store, "follow", follow_once)
    events = await follow(await api.submit())

    assert (await events.next())[0] == "enqueued"
    assert await events.next() is None
