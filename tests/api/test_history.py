"""Statistics by the minute: as they were written down, of all jobs or of a type."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.api.answers.views import format_time
from gopher_node.api.resources.stats import MinuteListDocument
from gopher_node.job import NewJob
from gopher_node.store import Pool
from tests.api.conftest import Api

MINUTE = 60_000
NOT_MEASURED = {"p50": None, "p95": None, "p99": None}
NOTHING = {
    **dict.fromkeys(("submitted", "completed", "failed", "retried", "crashed", "cancelled"), 0),
    **{"run_seconds": NOT_MEASURED, "wait_seconds": NOT_MEASURED},
}


@pytest.fixture
async def last(api: Api) -> int:
    """When the last whole minute began; three minutes up to it have been written down."""
    store = api.store
    last = (await store.survey()).now_ms // MINUTE * MINUTE - MINUTE
    await store.submit_many([NewJob(type="mail") for _ in range(3)])
    await store.history.tick(now=last - MINUTE)
    session = await store.open_session("n", 15.0)
    done, broken, again = (await store.claim(session, Pool.of(["mail"]), 3)).leases
    await store.complete(done)
    await store.fail(broken, b'{"code":"broken","message":""}')
    await store.retry(again, b'{"code":"broken","message":""}', 60.0)
    await store.cancel(again.job.id)
    await store.submit_many([NewJob(type="audit")])
    await store.history.tick(now=last)
    await store.history.tick(now=last + MINUTE)
    return last


async def history(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/api/v1/stats/history{query}")
    assert answer.status == 200, answer.body
    MinuteListDocument.model_validate(answer.json)
    return answer.json["items"]


async def test_minutes_of_all_jobs(api: Api, last: int) -> None:
    """All that happened, the latest minute last, and zeros for what did not."""
    happened = {"submitted": 1, "completed": 1, "failed": 1, "retried": 1, "cancelled": 1}

    assert await history(api) == [
        {"at": format_time(last - 2 * MINUTE), **NOTHING, "submitted": 3},
        {"at": format_time(last - MINUTE), **NOTHING, **happened},
        {"at": format_time(last), **NOTHING},
    ]


@pytest.mark.parametrize("word", ["type", "queue"])
async def test_minutes_of_a_type(api: Api, last: int, word: str) -> None:
    """Only what happened to its jobs; a type of which nothing is known has nothing but zeros."""
    assert [minute["submitted"] for minute in await history(api, f"?{word}=mail")] == [3, 0, 0]
    assert [minute["completed"] for minute in await history(api, f"?{word}=mail")] == [0, 1, 0]
    assert [minute["submitted"] for minute in await history(api, f"?{word}=audit")] == [0, 1, 0]
    assert [minute["submitted"] for minute in await history(api, f"?{word}=nothing")] == [0, 0, 0]


async def test_so_many_minutes(api: Api, last: int) -> None:
    """The last ones."""
    shown = {minutes: len(await history(api, f"?minutes={minutes}")) for minutes in (1, 2, 3, 2880)}

    # A new minute may have begun meanwhile, in which nothing was written down.
    assert shown in ({1: 1, 2: 2, 3: 3, 2880: 3}, {1: 0, 2: 1, 3: 2, 2880: 3})


@pytest.mark.parametrize("minutes", ["0", "2881", "-1", "1.5", "x", "", "1" * 10])
async def test_bounds(api: Api, minutes: str) -> None:
    answer = await api.get(f"/api/v1/stats/history?minutes={minutes}")

    assert (answer.status, answer.problem) == (422, "invalid-parameter")
    (fault,) = answer.json["errors"]
    assert (fault["parameter"], fault["detail"]) == ("minutes", "must be a whole number from 1 to 2880")


async def test_other_bad_parameters(api: Api) -> None:
    for query, fault in (("?type=a:b", "invalid-name"), ("?hours=1", "unknown-parameter")):
        answer = await api.get(f"/api/v1/stats/history{query}")
        assert (answer.status, answer.problem) == (422, "invalid-parameter")
        assert [told["code"] for told in answer.json["errors"]] == [fault]


async def test_nothing_yet(api: Api) -> None:
    assert await history(api) == []
