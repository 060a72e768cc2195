"""Web pages of other origins: who is let in by a browser, and what every answer says to browsers."""

import pytest

PAGE = "https://page.example"
ASK = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_nobody_is_let_in_by_default(api):
    """No origin is named, so none hears a word of CORS."""
    asked = await api.call("OPTIONS", "/api/v1/jobs", headers={"Origin": PAGE, **ASK})
    read = await api.get("/api/v1/jobs", headers={"Origin": PAGE})

    assert asked.problem == "method-not-allowed"
    assert not any(name.startswith("Access-Control") for answer in (asked, read) for name in answer.headers)


async def test_a_named_origin_is_let_in(serve):
    """The preflight says what it may send, and each answer that it may be read, errors too."""
    api = await serve(cors_origins=[PAGE], api_keys="k" * 32)

    asked = await api.call("OPTIONS", "/api/v1/jobs", headers={"Origin": PAGE, **ASK})
    refused = await api.get("/api/v1/jobs", headers={"Origin": PAGE})
    read = await api.get("/api/v1/jobs", headers={"Origin": PAGE, "X-API-Key": "k" * 32})

    assert (asked.status, refused.status, read.status) == (204, 401, 200)
    assert {"Authorization", "X-API-Key", "Idempotency-Key", "Content-Type"} <= set(
        asked.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert {"PATCH", "DELETE"} <= set(asked.headers["Access-Control-Allow-Methods"].split(", "))
    for answer in (asked, refused, read):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Retry-After" in read.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", ["https://other.example", "http://page.example", PAGE + ":8443", "null"])
async def test_another_origin_is_not(serve, origin):
    """An origin is scheme, name and port, and all of it counts."""
    api = await serve(cors_origins=[PAGE])

    asked = await api.call("OPTIONS", "/api/v1/jobs", headers={"Origin": origin, **ASK})
    read = await api.get("/api/v1/jobs", headers={"Origin": origin})

    assert asked.status == 405
    assert read.headers["Vary"] == "Origin"
    assert not any(name.startswith("Access-Control") for answer in (asked, read) for name in answer.headers)


async def test_any_origin(serve):
    """With a star every page may call, with a key; never with what a browser adds by itself."""
    api = await serve(cors_origins=["*"], api_keys="k" * 32)

    read = await api.get("/api/v1/jobs", headers={"Origin": PAGE, "X-API-Key": "k" * 32})

    assert read.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in read.headers


async def test_every_answer_has_the_security_headers(serve):
    """Answers, problems, and what the server itself refuses: no guessed types, no copies, nobody's version."""
    api = await serve(api_keys="k" * 32)
    answers = [
        await api.get("/api/v1/jobs"),
        await api.get("/api/v1/jobs", headers={"X-API-Key": "k" * 32}),
        await api.get("/nothing"),
        await api.get("/health"),
        await api.get("/docs"),
        await api.exchange(b"nonsense\r\n\r\n"),
        await api.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nConnection: close\r\n\r\n"),
    ]

    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "gopher-node"
        assert answer.headers["X-Request-ID"]


async def test_a_base_path(serve):
    """All addresses move below the prefix; probes are also where they were, and Location leads to the job."""
    api = await serve(base_path="/queue/v2")
    assert api.server.url.endswith("/queue/v2")

    answer = await api.post("/api/v1/jobs", {"type": "mail"})
    root = api.server.url.removesuffix("/queue/v2")

    assert answer.status == 201
    assert answer.headers["Location"] == f"/queue/v2/api/v1/jobs/{answer.json['job_id']}"
    assert (await api.get("/livez")).status == 200
    for path, status in ((answer.headers["Location"], 200), ("/livez", 200), ("/health", 200), ("/api/v1/jobs", 404)):
        async with api.session.get(root + path) as response:
            assert response.status == status
