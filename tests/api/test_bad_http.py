"""Bad HTTP: what is no request, too much of one, or too slow has its exact answer, and stores nothing."""

import asyncio

import pytest

JSON = {"Content-Type": "application/json"}


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
    writer.write(b"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)

    async with asyncio.timeout(10):
        while api.server.connections > 1:
            await api.get("/livez")
    writer.close()


def head(headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
