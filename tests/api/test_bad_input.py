"""Bad input: each kind has its exact answer, and nothing is stored."""

import gzip
import io
import json
import zlib
from datetime import UTC, datetime, timedelta

import pytest

JSON = {"Content-Type": "application/json"}


def payload(text: bytes) -> bytes:
    return b'{"type":"mail","payload":' + text + b"}"


BODIES = {
    "empty": (b"", 400, "empty-body"),
    "blank": (b" \n", 400, "empty-body"),
    "truncated": (b'{"type":"mail"', 400, "malformed-json"),
    "trailing comma": (b'{"type":"mail",}', 400, "malformed-json"),
    "two values": (b'{"type":"mail"}{}', 400, "malformed-json"),
    "invalid utf-8": (b'{"type":"\xff"}', 400, "malformed-json"),
    "utf-16": ('{"type":"mail"}'.encode("utf-16"), 400, "malformed-json"),
    "byte order mark": (b'\xef\xbb\xbf{"type":"mail"}', 400, "malformed-json"),
    "lone surrogate": (payload(b'"\\ud800"'), 400, "malformed-json"),
    "NaN": (payload(b"NaN"), 400, "malformed-json"),
    "Infinity": (payload(b"-Infinity"), 400, "malformed-json"),
    "1e999": (payload(b"[1e999]"), 400, "number-out-of-range"),
    "5,000 digits": (payload(b"9" * 5000), 400, "number-out-of-range"),
    "65 bits": (payload(b"18446744073709551616"), 400, "number-out-of-range"),
    "65 bits below zero": (payload(b"[-9223372036854775809]"), 400, "number-out-of-range"),
    "depth 65": (payload(b"[" * 64 + b"]" * 64), 400, "json-too-deep"),
    "depth 1,000": (payload(b"[" * 1000 + b"]" * 1000), 400, "json-too-deep"),
    "depth 100,000": (b"[" * 100_000, 400, "json-too-deep"),
    "array": (b"[]", 422, "invalid-job"),
    "scalar": (b"3", 422, "invalid-job"),
    "null": (b"null", 422, "invalid-job"),
    "no type": (b"{}", 422, "invalid-job"),
    "NUL in type": (b'{"type":"a\\u0000b"}', 422, "invalid-name"),
    "newline in type": (b'{"type":"mail\\n"}', 422, "invalid-name"),
    "brace in type": (b'{"type":"{a}"}', 422, "invalid-name"),
    "long type": (json.dumps({"type": "a" * 101}).encode(), 422, "invalid-name"),
    "control character in group": (b'{"type":"mail","group":"a\\u001b"}', 422, "invalid-name"),
    "blank in tag": (b'{"type":"mail","tags":["a b"]}', 422, "invalid-name"),
    "tags no list": (b'{"type":"mail","tags":"a"}', 422, "invalid-name"),
    "too many tags": (json.dumps({"type": "mail", "tags": [f"t{n}" for n in range(21)]}).encode(), 422, "out-of-range"),
    "payload over 256 KiB": (payload(b'"' + b"x" * 256 * 1024 + b'"'), 413, "job-too-large"),
    "unknown field": (b'{"type":"mail","state":"completed"}', 422, "unknown-field"),
    "field of a later release": (b'{"type":"mail","affinity":"x"}', 422, "unknown-field"),
    "retries -1": (b'{"type":"mail","retries":-1}', 422, "out-of-range"),
    "retries 1e9": (b'{"type":"mail","max_retries":1000000000}', 422, "out-of-range"),
    "retries true": (b'{"type":"mail","max_retries":true}', 422, "out-of-range"),
    "retries text": (b'{"type":"mail","max_retries":"3"}', 422, "out-of-range"),
    "retries float": (b'{"type":"mail","max_retries":3.0}', 422, "out-of-range"),
    "priority 0": (b'{"type":"mail","priority":0}', 422, "out-of-range"),
    "priority true": (b'{"type":"mail","priority":true}', 422, "out-of-range"),
    "priority word": (b'{"type":"mail","priority":"asap"}', 422, "out-of-range"),
    "naive time": (b'{"type":"mail","execute_at":"2026-12-01T08:00:00"}', 422, "invalid-run-at"),
    "date": (b'{"type":"mail","execute_at":"2026-12-01"}', 422, "invalid-run-at"),
    "week date": (b'{"type":"mail","execute_at":"2026-W01-1T00:00:00Z"}', 422, "invalid-run-at"),
    "30 February": (b'{"type":"mail","execute_at":"2026-02-30T08:00:00Z"}', 422, "invalid-run-at"),
    "epoch": (b'{"type":"mail","execute_at":1893456000}', 422, "invalid-run-at"),
    "over a year": (
        json.dumps({"type": "mail", "execute_at": (datetime.now(UTC) + timedelta(days=400)).isoformat()}).encode(),
        422,
        "invalid-run-at",
    ),
    "delay over a year": (b'{"type":"mail","delay":"400d"}', 422, "invalid-run-at"),
    "delay and time": (b'{"type":"mail","delay":1,"execute_at":"2026-12-01T08:00:00Z"}', 422, "invalid-job"),
    "negative delay": (b'{"type":"mail","delay":-1}', 422, "invalid-duration"),
    "delay word": (b'{"type":"mail","delay":"later"}', 422, "invalid-duration"),
    "timeout 0": (b'{"type":"mail","timeout":0}', 422, "out-of-range"),
    "job_id no text": (b'{"type":"mail","job_id":7}', 422, "invalid-name"),
    "job_id no UUID": (b'{"type":"mail","job_id":"order-4711"}', 422, "invalid-name"),
    "job_id in capitals": (
        b'{"type":"mail","job_id":"B3864208-5177-41AD-8FA2-451FED8EC84F"}',
        422,
        "invalid-name",
    ),
    "NUL in job_id": (b'{"type":"mail","job_id":"b3864208-5177-41ad-8fa2-451fed8ec84f\\u0000"}', 422, "invalid-name"),
    "callback no text": (b'{"type":"mail","callback_url":["https://example.org"]}', 422, "callback-not-allowed"),
    "two words for retries": (b'{"type":"mail","retries":1,"max_retries":2}', 422, "invalid-job"),
    "two words for type": (b'{"type":"mail","queue":"post"}', 422, "invalid-job"),
}


@pytest.mark.parametrize(("body", "status", "problem"), BODIES.values(), ids=BODIES.keys())
async def test_body(api, body, status, problem):
    """A bad body has its status and its problem, is not echoed, and stores nothing."""
    answer = await api.call("POST", "/api/v1/jobs", data=body, headers=JSON)

    assert (answer.status, answer.problem) == (status, problem)
    assert len(answer.body) < 1000
    assert await api.stored() == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "/hooks",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://example.org/",
        "https://user:secret@example.org/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://[fd00::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://metadata.google.internal/",
        "https://100.100.100.200/",
        "https://printer.local/",
        "https://intranet/",
        "https://example.org/\r\nHost: other",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/" + "x" * 2048,
    ],
)
async def test_callbacks_that_lead_inside(api, url):
    """A callback may go to public https addresses only, however another one is spelt."""
    answer = await api.post("/api/v1/jobs", {"type": "mail", "callback_url": url})

    assert (answer.status, answer.problem) == (422, "callback-not-allowed")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/callback_url"]
    assert "secret" not in answer.body.decode()
    assert await api.stored() == 0


async def test_an_id_that_is_taken(api):
    """A job_id that a job has already is refused, and the answer names that job's state; the job stays as it is."""
    own = "b3864208-5177-41ad-8fa2-451fed8ec84f"
    first = await api.post("/api/v1/jobs", {"type": "mail", "job_id": own})
    alone = await api.post("/api/v1/jobs", {"type": "post", "job_id": own})
    batch = await api.post("/api/v1/jobs/bulk", [{"type": "mail"}, {"type": "mail", "job_id": own}])

    assert (first.status, first.json["job_id"]) == (201, own)
    for answer in (alone, batch):
        assert (answer.status, answer.problem, answer.json["state"]) == (409, "job-exists", "enqueued")
    assert batch.json["errors"][0]["pointer"] == "/1/job_id"
    assert (await api.get(f"/api/v1/jobs/{own}")).json == first.json
    assert await api.stored() == 1


async def test_an_id_that_stands_in_a_batch_twice(api):
    """Two jobs of a batch cannot have one id."""
    own = "b3864208-5177-41ad-8fa2-451fed8ec84f"
    answer = await api.post("/api/v1/jobs/bulk", [{"type": "mail", "job_id": own}] * 2)

    assert (answer.status, answer.problem) == (422, "invalid-job")
    assert answer.json["errors"][0]["pointer"] == "/1/job_id"
    assert await api.stored() == 0


async def test_syntax_errors_say_where(api):
    """The offset counts bytes, not characters."""
    answer = await api.call("POST", "/api/v1/jobs", data='{"é":x}'.encode(), headers=JSON)

    assert answer.json["offset"] == 6


@pytest.mark.parametrize(
    "text",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b'"123456789012345678901234567890"',
        b'"\\"123456789012345678901234567890"',
        b"0.1234567890123456789012345",
        b"1234567890123456789012.5",
        b"1e300",
        b'"a\\u0000b"',
        b"[" * 63 + b"]" * 63,
        b'"' + b"[" * 1000 + b'"',
    ],
)
async def test_unusual_but_valid(api, text):
    """What only looks like a bad number, depth or character is accepted."""
    answer = await api.call("POST", "/api/v1/jobs", data=payload(text), headers=JSON)

    assert answer.status == 201
    assert answer.json["payload"] == json.loads(text)


async def test_of_two_equal_keys_the_last_counts(api):
    """Duplicate keys are no error."""
    answer = await api.call("POST", "/api/v1/jobs", data=b'{"type":"a","type":"b"}', headers=JSON)

    assert answer.json["type"] == "b"


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Content-Type": "text/plain"}, "unsupported-media-type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported-media-type"),
        ({"Content-Type": "application/x-ndjson"}, "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=utf-7"}, "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=latin-1"}, "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=nonsense"}, "unsupported-media-type"),
        ({**JSON, "Content-Encoding": "br"}, "unsupported-encoding"),
        ({**JSON, "Content-Encoding": "gzip, gzip"}, "unsupported-encoding"),
        ({**JSON, "Content-Encoding": "rot13"}, "unsupported-encoding"),
    ],
)
async def test_unsupported_headers(api, headers, problem):
    """Media types, charsets and encodings that are not ours are refused."""
    answer = await api.exchange(request(b'{"type":"mail"}', {**headers, "Connection": "close"}))

    assert (answer.status, answer.problem) == (415, problem)
    assert await api.stored() == 0


async def test_no_content_type(api):
    """A body of no declared kind is refused."""
    answer = await api.exchange(request(b'{"type":"mail"}', {"Connection": "close"}))

    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json;charset=UTF-8", 'application/json; charset="utf-8"'])
async def test_utf_8_may_be_named(api, kind):
    """The charset that JSON has anyway may be named."""
    answer = await api.call("POST", "/api/v1/jobs", data=b'{"type":"mail"}', headers={"Content-Type": kind})

    assert answer.status == 201


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies(api, encoding, compress):
    """Compressed JSON is read; garbage and bombs are refused."""
    headers = {**JSON, "Content-Encoding": encoding}

    good = await api.call("POST", "/api/v1/jobs", data=compress(b'{"type":"mail"}'), headers=headers)
    bomb = await api.call("POST", "/api/v1/jobs", data=compress(b" " * 64 * 1024 * 1024), headers=headers)
    garbage = await api.call("POST", "/api/v1/jobs", data=b"garbage that is not compressed", headers=headers)

    assert good.status == 201
    assert (bomb.status, bomb.problem) == (413, "payload-too-large")
    assert (garbage.status, garbage.problem) == (400, "bad-encoding")
    assert await api.stored() == 1


async def test_a_body_over_the_limit(api):
    """More than 1 MiB is refused, whether its length is declared or not."""

    async def pieces():
        for _ in range(20):
            yield b" " * 64 * 1024

    declared = await api.call("POST", "/api/v1/jobs", data=io.BytesIO(b" " * (1024 * 1024 + 1)), headers=JSON)
    streamed = await api.call("POST", "/api/v1/jobs", data=pieces(), headers=JSON)

    assert (declared.status, declared.problem) == (413, "payload-too-large")
    assert (streamed.status, streamed.problem) == (413, "payload-too-large")


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/api/v1/jobs/", 404, "not-found"),
        ("PUT", "/api/v1/jobs", 405, "method-not-allowed"),
        ("POST", "/health", 405, "method-not-allowed"),
        ("OPTIONS", "/api/v1/jobs", 405, "method-not-allowed"),
    ],
)
async def test_wrong_address_or_method(api, method, path, status, problem):
    """Unknown addresses are 404, and wrong methods 405 with those that are allowed."""
    answer = await api.call(method, path)

    assert (answer.status, answer.problem) == (status, problem)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs?stauts=failed",
        "/api/v1/jobs?status=failed&status=completed",
        "/api/v1/jobs?status=done",
        "/api/v1/jobs?limit=0",
        "/api/v1/jobs?limit=201",
        "/api/v1/jobs?limit=ten",
        "/api/v1/jobs?cursor=nonsense",
        "/api/v1/jobs?type=",
        "/api/v1/jobs?priority=9",
        "/api/v1/jobs?created_after=yesterday",
        "/api/v1/jobs/00000000-0000-4000-8000-000000000000?wait=2m",
        "/api/v1/jobs/00000000-0000-4000-8000-000000000000?wait=soon",
        "/api/v1/dead-letters?status=failed",
        "/api/v1/stats?x=1",
    ],
)
async def test_bad_parameters(api, path):
    """A query parameter that is wrong, unknown or repeated is refused by name."""
    answer = await api.get(path)

    assert (answer.status, answer.problem) == (422, "invalid-parameter")
    assert answer.json["errors"][0]["parameter"] == path.partition("?")[2].partition("=")[0]


async def test_a_misspelt_filter_retries_nothing(api):
    """An act on many jobs is refused for a parameter that it does not know."""
    answer = await api.post("/api/v1/dead-letters/retry?typ=mail")

    assert (answer.status, answer.problem) == (422, "invalid-parameter")


async def test_long_field_names_are_cut(api):
    """The name of an unknown field stands in the answer, but not all of a megabyte of it."""
    answer = await api.post("/api/v1/jobs", {"type": "mail", "x" * 500_000: 1, "a/b~c": 2})

    assert answer.problem == "unknown-field"
    assert len(answer.body) < 1000
    assert {error["pointer"] for error in answer.json["errors"]} == {"/" + "x" * 100, "/a~1b~0c"}


def head(headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()


def request(body: bytes, headers: dict[str, str]) -> bytes:
    return head({**headers, "Content-Length": str(len(body))}) + body
