"""Idempotency keys: however often a submit is told, it is done once."""

import asyncio
import gzip
import json
import uuid

import aiohttp
import pytest

JSON = {"Content-Type": "application/json"}
LONGEST = "k" * 255


async def submit(api, body=b'{"type":"mail"}', key="key-1", path="/api/v1/jobs", **headers):
    headers = {**JSON, "Idempotency-Key": key, **headers}
    return await api.call("POST", path, data=body, headers=headers)


@pytest.mark.parametrize("key", ["1", LONGEST, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~"])
async def test_a_repeat_is_answered_as_the_first(api, key):
    """The same key and body have the same answer, also when the job has moved on; only a header says so."""
    body = b'{"type":"mail","payload":{"a":1},"delay":"1h"}'
    first = await submit(api, body, key)
    await api.store.run_now(first.json["job_id"])
    again = await submit(api, body, key)

    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await api.stored() == 1
    assert api.events.counts["submitted"] == 1


async def test_a_repeat_may_use_another_spelling_of_the_address(api):
    """The alias of an address is the same address."""
    first = await submit(api)

    assert (await submit(api, path="/api/jobs")).json["job_id"] == first.json["job_id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", b'{"type":"post"}'),
        ("/api/v1/jobs", b'{"type": "mail"}'),
        ("/api/v1/jobs/bulk", b'[{"type":"mail"}]'),
    ],
    ids=["other job", "other bytes", "other address"],
)
async def test_a_key_stands_for_one_request(api, path, body):
    """With any other body, or at another address, a key is refused and nothing is stored."""
    await submit(api)
    answer = await submit(api, body, path=path)

    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")
    assert await api.stored() == 1


async def test_a_refused_request_leaves_its_key_free(api):
    """A request that stored nothing does not count as the first one."""
    refused = await submit(api, b'{"type":"mail","priority":9}')
    accepted = await submit(api)

    assert (refused.status, accepted.status) == (422, 201)
    assert "Idempotency-Replayed" not in accepted.headers


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/jobs/bulk"])
@pytest.mark.parametrize(
    "headers",
    [
        b"Idempotency-Key: \r\n",
        b"Idempotency-Key: " + b"k" * 256 + b"\r\n",
        b"Idempotency-Key: \xc3\xa4\r\n",
        b"Idempotency-Key: \xff\r\n",
        b"Idempotency-Key: a b\r\n",
        b"Idempotency-Key: a\tb\r\n",
        b"Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
        b"Idempotency-Key: a\r\nidempotency-key: b\r\n",
    ],
    ids=["empty", "256", "UTF-8", "no text", "blank", "tab", "twice", "two"],
)
async def test_bad_keys(api, path, headers):
    """A key that is no key is refused, and nothing is stored."""
    body = b'[{"type":"mail"}]' if path.endswith("bulk") else b'{"type":"mail"}'
    answer = await api.exchange(
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        % path.encode()
        + headers
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )

    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert await api.stored() == 0


async def test_batches(api):
    """A batch is repeated as a whole, with the same ids in the same order."""
    body = json.dumps([{"type": "mail", "payload": n} for n in range(50)]).encode()
    first = await submit(api, body, path="/api/v1/jobs/bulk")
    again = await submit(api, body, path="/api/v1/jobs/bulk")

    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert [job["payload"] for job in again.json["items"]] == list(range(50))
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert await api.stored() == 50
    assert api.events.counts["submitted"] == 50


async def test_compressed_or_not_is_the_same_body(api):
    """What counts is what the body says after its encoding is undone."""
    first = await submit(api)
    again = await submit(api, gzip.compress(b'{"type":"mail"}'), **{"Content-Encoding": "gzip"})

    assert again.json["job_id"] == first.json["job_id"]


async def test_an_own_id_and_a_key(api):
    """A repeat with both a key and a job_id is a repeat and no conflict; without the key it is a conflict."""
    own = str(uuid.uuid4())
    body = json.dumps({"type": "mail", "job_id": own}).encode()
    first = await submit(api, body)
    again = await submit(api, body)
    conflict = await api.call("POST", "/api/v1/jobs", data=body, headers=JSON)

    assert first.json["job_id"] == again.json["job_id"] == own
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (conflict.status, conflict.problem, conflict.json["state"]) == (409, "job-exists", "enqueued")


async def test_keys_belong_to_whoever_asks(serve):
    """Two callers with API keys of their own may choose the same idempotency key."""
    secrets = ["a" * 32, "b" * 32]
    api = await serve(api_keys=",".join(f"{secret}:submit" for secret in secrets))
    answers = [await submit(api, Authorization=f"Bearer {secret}") for secret in secrets]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json["job_id"] != answers[1].json["job_id"]


async def test_a_thousand_twins_over_two_nodes_are_one_job(serve):
    """However many send the same request at once, to whichever node: one job, and all have its answer."""
    nodes = [await serve(), await serve()]
    body = b'{"type":"mail","payload":{"order":4711}}'
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def twin(number):
            url = nodes[number % 2].server.url + "/api/v1/jobs"
            async with session.post(url, data=body, headers={**JSON, "Idempotency-Key": "order-4711"}) as response:
                return response.status, "Idempotency-Replayed" in response.headers, await response.read()

        answers = await asyncio.gather(*(twin(number) for number in range(1000)))

    assert {status for status, _, _ in answers} == {201}
    assert len({content for _, _, content in answers}) == 1
    assert sum(not replayed for _, replayed, _ in answers) == 1
    assert await nodes[0].stored() == 1
    assert sum(node.events.counts["submitted"] for node in nodes) == 1
