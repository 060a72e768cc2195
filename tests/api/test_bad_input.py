"""Bad input: each kind has its exact answer, and nothing is stored."""

import asyncio
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
    "field of a later release": (b'{"type":"mail","unique_key":"x"}', 422, "unknown-field"),
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


async def test_a_huge_declared_length_is_refused_at_once(api):
    """Ten gigabytes are refused from the header alone, and the connection is closed."""
    answer = await api.exchange(head({**JSON, "Content-Length": "10000000000"}))

    assert (answer.status, answer.problem) == (413, "payload-too-large")
    assert answer.headers["Connection"] == "close"


async def test_a_body_that_drips_is_cut_off(serve):
    """A body has a deadline as a whole, however regularly its bytes come."""
    api = await serve(read_timeout=0.2)
    reader, writer = await asyncio.open_connection(*api.server.address)
    writer.write(head({**JSON, "Content-Length": "100000"}))
    reading = asyncio.ensure_future(reader.readuntil(b"}"))
    while not (await asyncio.wait([reading], timeout=0.02))[0]:
        writer.write(b" ")
    answer = api.read(await reading)
    writer.close()

    assert (answer.status, answer.problem) == (408, "request-timeout")
    assert answer.headers["Connection"] == "close"
    assert await api.stored() == 0


REQUESTS = {
    "negative length": b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "carriage return in header": b"GET / HTTP/1.1\r\nHost: x\r\nA: sec\rret\r\n\r\n",
    "NUL in header": b"GET / HTTP/1.1\r\nHost: x\r\nA: sec\0ret\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "words": b"secret words\r\n\r\n",
}


@pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS.keys())
async def test_what_is_not_http(api, raw):
    """What is no valid request is answered 400 without an echo, and closed."""
    answer = await api.exchange(raw)

    assert (answer.status, answer.problem) == (400, "bad-request")
    assert b"sec" not in answer.body


async def test_a_broken_chunk(serve):
    """A body that breaks its framing is answered 400 at once, and closed."""
    api = await serve(read_timeout=30)

    answer = await api.exchange(head({**JSON, "Transfer-Encoding": "chunked"}), b'5\r\n{"typ\r\nnonsense\r\n')

    assert (answer.status, answer.problem) == (400, "bad-request")


@pytest.mark.parametrize(
    ("raw", "status", "problem"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431, "headers-too-large"),
        (
            b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: a\r\n" % n for n in range(500)) + b"\r\n",
            431,
            "headers-too-large",
        ),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri-too-long"),
    ],
    ids=["long header", "many headers", "long address"],
)
async def test_too_much_before_the_body(api, raw, status, problem):
    """Headers and addresses have limits with answers of their own."""
    answer = await api.exchange(raw)

    assert (answer.status, answer.problem) == (status, problem)


async def test_an_expectation_that_nobody_knows(api):
    """An Expect header other than 100-continue is a problem too."""
    answer = await api.exchange(head({**JSON, "Expect": "miracles", "Connection": "close"}))

    assert (answer.status, answer.problem) == (417, "expectation-failed")


async def test_headers_that_drip_are_cut_off(api, monkeypatch):
    """A connection that sends no whole request in its idle time is closed."""
    monkeypatch.setattr("gopher_node.api.server.KEEP_ALIVE", 0.1)
    reader, writer = await asyncio.open_connection(*api.server.address)
    writer.write(b"GET /livez HTTP/1.1\r\nHost:")

    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_does_not_read_is_cut_off(serve):
    """An answer that nobody takes is dropped with its connection."""
    api = await serve(write_timeout=0.1)
    for _ in range(20):
        await api.submit(payload="x" * 200_000)
    _, writer = await asyncio.open_connection(*api.server.address, limit=1024)
    writer.transport.pause_reading()
    writer.write(b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n" * 5)

    async with asyncio.timeout(10):
        while api.server.connections > 1:
            await api.get("/livez")
    writer.close()


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
        "/api/v1/dead-letters?priority=high",
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
    return f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def request(body: bytes, headers: dict[str, str]) -> bytes:
    return head({**headers, "Content-Length": str(len(body))}) + body
