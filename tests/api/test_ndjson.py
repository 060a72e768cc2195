"""Streams of jobs: a line in, a line out, and nothing that one line says is another's loss."""

import asyncio
import contextlib
import gzip
import json
import uuid
import zlib
from contextlib import asynccontextmanager

import pytest

from gopher_node.errors import OutcomeUnknown, StoreFull, StoreUnavailable
from gopher_node.job import State

NDJSON = {"Content-Type": "application/x-ndjson"}


class Duplex:
    """A client that sends a stream and reads its answers as it likes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def open(cls, api, headers=b"", **options):
        duplex = cls(*await asyncio.open_connection(*api.server.address, **options))
        duplex.writer.write(
            b"POST /api/v1/jobs/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            b"Transfer-Encoding: chunked\r\n" + headers + b"\r\n"
        )
        try:
            yield duplex
        finally:
            duplex.writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await duplex.writer.wait_closed()

    def send(self, data):
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self):
        self.writer.write(b"0\r\n\r\n")

    async def head(self):
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def lines(self):
        """What the next chunk says; nothing at the end."""
        size = int((await asyncio.wait_for(self.reader.readline(), 10)).strip(), 16)
        return [json.loads(line) for line in (await self.reader.readexactly(size + 2)).splitlines() if line]


def line(**fields):
    return json.dumps({"type": "mail", **fields}).encode() + b"\n"


async def send(api, body, **headers):
    answer = await api.call("POST", "/api/v1/jobs/bulk", data=body, headers={**NDJSON, **headers})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson"), answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_each_line_has_its_answer(api):
    """Lines are answered in their order, each with its job, and stored in this order too."""
    answers = await send(api, b"".join(line(payload=n) for n in range(1234)))

    assert [answer["line"] for answer in answers] == list(range(1, 1235))
    assert {answer["status"] for answer in answers} == {201}
    assert {answer["job"]["status"] for answer in answers} == {"enqueued"}
    ids = [answer["job"]["job_id"] for answer in answers]
    listed = (await api.get("/api/v1/jobs?limit=200")).json["items"]
    assert [job["job_id"] for job in listed] == ids[:200]
    assert [job["payload"] for job in listed] == list(range(200))
    assert await api.stored() == 1234
    assert api.events.counts["submitted"] == 1234


async def test_a_bad_line_stops_no_other(api):
    """Whatever is wrong with a line is told as a problem in its place, as it would be told of a job alone."""
    lines = [
        line(),
        b"{nonsense\n",
        b"   \n",
        b"\n",
        line(priority="asap"),
        b"[]\n",
        b'"\xff"\n',
        line(payload="x" * 300_000),
        line(delay="1h"),
        line(callback_url="http://127.0.0.1/"),
        b"{}",
    ]

    answers = await send(api, b"".join(lines))

    told = [
        (answer["line"], answer["status"], answer.get("problem", {}).get("type", "").removeprefix("/problems/"))
        for answer in answers
    ]
    assert told == [
        (1, 201, ""),
        (2, 400, "malformed-json"),
        (5, 422, "out-of-range"),
        (6, 422, "invalid-job"),
        (7, 400, "malformed-json"),
        (8, 413, "job-too-large"),
        (9, 201, ""),
        (10, 422, "callback-not-allowed"),
        (11, 422, "invalid-job"),
    ]
    assert answers[6]["job"]["status"] == "scheduled"
    assert answers[6]["job"]["execute_at"] > answers[6]["job"]["created_at"]
    assert answers[1]["problem"].keys() >= {"type", "title", "status", "detail", "instance", "offset"}
    assert answers[2]["problem"]["errors"][0]["pointer"] == "/priority"
    assert b"nonsense" not in json.dumps(answers).encode()
    assert await api.stored() == 2


async def test_no_lines(api):
    """An empty stream has an empty answer."""
    assert await send(api, b"") == []
    assert await send(api, b"\n \n") == []


async def test_line_ends(api):
    """Lines may end as Windows ends them, and the last one need not end."""
    assert [answer["status"] for answer in await send(api, b'{"type":"a"}\r\n{"type":"b"}')] == [201, 201]


async def test_a_long_line_is_refused_and_dropped(api):
    """A line of more than 1 MiB is not kept, and the next one is read."""

    async def pieces():
        yield line()
        for _ in range(40):
            yield b"x" * 64 * 1024
        yield b"\n" + line() + b"y" * (1024 * 1024 + 1) + b"\n" + line(payload="z" * 250_000)

    answers = await send(api, pieces())

    assert [(answer["line"], answer["status"]) for answer in answers] == [
        (1, 201),
        (2, 413),
        (3, 201),
        (4, 413),
        (5, 201),
    ]
    assert answers[1]["problem"]["type"] == "/problems/payload-too-large"


@pytest.mark.parametrize("size", [1, 7])
async def test_lines_may_come_in_any_pieces(api, size):
    """Where the client's pieces end says nothing."""
    body = b"\n".join([line(payload="ä\\n"), b"", line(job_id=str(uuid.uuid4())), b"{"])

    async def pieces():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    assert [(a["line"], a["status"]) for a in await send(api, pieces())] == [(1, 201), (4, 201), (6, 400)]


async def test_compressed_streams(api):
    """A stream may be compressed."""
    good = await send(api, gzip.compress(line() * 500), **{"Content-Encoding": "gzip"})
    garbage = await api.call(
        "POST", "/api/v1/jobs/bulk", data=b"garbage", headers={**NDJSON, "Content-Encoding": "gzip"}
    )

    assert [answer["status"] for answer in good] == [201] * 500
    assert (garbage.status, garbage.problem) == (400, "bad-encoding")
    assert await api.stored() == 500


async def test_a_stream_that_breaks_on_the_way(api):
    """Where a stream turns out not to be what its headers say, its answer ends with a problem."""
    pack = zlib.compressobj()
    async with Duplex.open(api, b"Content-Encoding: deflate\r\n") as client:
        client.send(pack.compress(line() * 100) + pack.flush(zlib.Z_FULL_FLUSH))
        await client.head()
        stored = await client.lines()
        # A kind of block that there is not.
        client.send(b"\xff" * 100)
        (last,) = await client.lines()

        assert [answer["line"] for answer in [*stored, last]] == list(range(1, 102))
        assert (last["status"], last["problem"]["type"]) == (400, "/problems/bad-encoding")
        assert await client.lines() == []
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
    assert await api.stored() == 100


async def test_a_line_is_answered_before_the_next_is_sent(api):
    """What has come is stored and answered at once; the stream goes on as long as its client likes."""
    async with Duplex.open(api) as client:
        for number in range(1, 4):
            client.send(line())
            if number == 1:
                assert (await client.head()).startswith(b"HTTP/1.1 200")
            (answer,) = await client.lines()
            assert (answer["line"], answer["status"]) == (number, 201)
            assert await api.stored() == number
        client.end()

        assert await client.lines() == []


async def test_own_ids(api):
    """A line with a job_id of its own is refused alone if there is such a job, also if it stands in the same stream."""
    own = [str(uuid.uuid4()) for _ in range(3)]
    lines = [line(job_id=own[0]), line(), line(job_id=own[1]), line(job_id=own[0]), line(job_id=own[2])]

    first = await send(api, b"".join(lines))
    again = await send(api, b"".join(lines))

    assert [answer["status"] for answer in first] == [201, 201, 201, 409, 201]
    assert [answer["status"] for answer in again] == [409, 201, 409, 409, 409]
    assert first[0]["job"]["job_id"] == own[0]
    assert (again[0]["problem"]["type"], again[0]["problem"]["state"]) == ("/problems/job-exists", "enqueued")
    assert await api.stored() == 5


@pytest.mark.parametrize(
    ("error", "problem", "outcome"),
    [
        (StoreUnavailable(), "store-unavailable", "not-done"),
        (OutcomeUnknown(), "store-timeout", "unknown"),
        (StoreFull(), "store-full", "not-done"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
async def test_a_store_that_fails_on_the_way(api, monkeypatch, error, problem, outcome, own):
    """Lines that could not be stored say so, and what became of them; those after them are stored again."""
    one, many = api.store.submit, api.store.submit_many

    def fails(jobs):
        return any(job.payload == b'"bad"' for job in jobs)

    async def submit(job, once=None):
        if fails([job]):
            raise error
        return await one(job, once)

    async def submit_many(jobs, **options):
        if fails(jobs):
            raise error
        return await many(jobs, **options)

    monkeypatch.setattr(api.store, "submit", submit)
    monkeypatch.setattr(api.store, "submit_many", submit_many)
    async with Duplex.open(api) as client:
        told = []
        for payload in ("good", "bad", "good"):
            client.send(line(payload=payload, **({"job_id": str(uuid.uuid4())} if own else {})))
            if not told:
                await client.head()
            told += await client.lines()
        client.end()

        assert [answer["status"] for answer in told] == [201, 503, 201]
        assert (told[1]["problem"]["type"], told[1]["problem"]["outcome"]) == (f"/problems/{problem}", outcome)
        assert await client.lines() == []
        assert await api.stored() == 2


async def test_silence_ends_a_stream(serve):
    """A stream may last, but not be silent: then a last line says so, and the connection is closed."""
    api = await serve(read_timeout=1.5)
    async with Duplex.open(api) as client:
        client.send(line())
        await client.head()
        assert [answer["status"] for answer in await client.lines()] == [201]
        loop = asyncio.get_running_loop()
        begun = loop.time()
        # Each piece comes in time, and all of them together would not.
        for byte in line():
            client.send(bytes([byte]))
            await asyncio.wait([loop.create_future()], timeout=0.1)
        client.send(b'{"typ')

        (second,) = await client.lines()
        assert loop.time() - begun > 1.5
        (last,) = await client.lines()

        assert (second["line"], second["status"]) == (2, 201)
        assert (last["line"], last["status"]) == (3, 408)
        assert last["problem"]["type"] == "/problems/request-timeout"
        assert await client.lines() == []
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        assert await api.stored() == 2


async def test_silence_from_the_start(serve):
    """A stream of which nothing comes is refused as any other body."""
    api = await serve(read_timeout=0.1)
    async with Duplex.open(api) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 408")


async def test_draining_ends_a_stream(api):
    """A node that shuts down ends a stream with a line that says where it ends, and closes."""
    async with Duplex.open(api) as client:
        client.send(line() + line())
        await client.head()
        assert len(await client.lines()) == 2

        api.server.drain()
        (last,) = await client.lines()

        assert (last["line"], last["status"]) == (3, 503)
        assert (last["problem"]["type"], last["problem"]["outcome"]) == ("/problems/draining", "not-done")
        assert await client.lines() == []
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        assert await api.stored() == 2


async def test_a_client_that_takes_no_answers_is_not_read_from(serve):
    """Who does not read the answers is not read from either, and is cut off in the end; a patient one gets them all."""
    api = await serve(write_timeout=0.3)
    async with Duplex.open(api, limit=1024) as client:
        client.writer.transport.pause_reading()
        sent = 0

        async def send_all():
            nonlocal sent
            while True:
                client.send(line() * 1000)
                sent += 1000
                await client.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_all(), 30)
        stored = await api.stored()

        assert 0 < stored < sent


async def test_a_client_that_vanishes_stops_its_stream(api):
    """What a vanished client has sent is not stored behind its back for long."""
    async with Duplex.open(api) as client:
        client.send(line())
        await client.head()
        await client.lines()

        client.writer.transport.abort()

        async with asyncio.timeout(10):
            while api.server.connections:
                await api.store.ping()
        assert await api.stored() == 1


async def test_keys_are_for_requests_that_can_be_repeated(api):
    """A stream with an Idempotency-Key is refused, for nobody could keep that promise."""
    answer = await api.call("POST", "/api/v1/jobs/bulk", data=line(), headers={**NDJSON, "Idempotency-Key": "x"})

    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert await api.stored() == 0


async def test_a_mistake_of_the_node_is_one_line(api, monkeypatch):
    """An unforeseen exception while storing costs the lines of its step, and is told as everywhere."""

    async def broken(jobs, **options):
        raise RuntimeError("secret")

    monkeypatch.setattr(api.store, "submit_many", broken)
    answers = await send(api, line() * 2)

    assert [answer["problem"]["type"] for answer in answers] == ["/problems/internal"] * 2
    assert "secret" not in json.dumps(answers)


async def test_streams_belong_to_jobs_alone(api):
    """NDJSON is no other body's type."""
    answer = await api.call("POST", "/api/v1/jobs", data=line(), headers=NDJSON)

    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


async def test_states_are_those_of_the_store(api):
    """What a line is told of its job is what a look at it finds."""
    (answer,) = await send(api, line(delay="1h", tags=["a"]))

    job = await api.store.get(answer["job"]["job_id"])
    assert (job.state, job.tags) == (State.SCHEDULED, ("a",))
