"""Pages of jobs: in order, complete, without repeats, by any filter; a cursor survives what changes meanwhile."""

from __future__ import annotations

import base64
import random

import pytest

from gopher_node.job import NewJob, Priority, State
from gopher_node.store import JobFilter, Pool, Store
from tests.store.lanes import fill, take
from tests.store.test_cost import cost

POOL = Pool.of(["mail", "report"])
ALL = JobFilter()


async def walk(store: Store, filter: JobFilter = ALL, limit: int = 7) -> list[str]:
    """The ids on all pages."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(filter, limit, cursor)
        assert len(page.items) <= limit
        ids += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def populate(store: Store) -> None:
    """Jobs of two types in every state, level and group; each id tells what the job is."""
    session = await store.open_session("node", 15.0)
    jobs: list[NewJob] = []
    for type in POOL.types:
        one = Pool.of([type])
        for state in ("completed", "failed", "cancelled", "processing"):
            ids = await fill(store, f"{state}-{type}", 4, type=type)
            leases = (await store.claim(session, one, 4)).leases
            assert [lease.job.id for lease in leases] == ids
            for lease in leases if state != "processing" else []:
                await {"completed": store.complete, "failed": store.fail}.get(state, store.cancelled)(lease, b"{}")
        for level in Priority:
            for group in ("", "acme", "b:c"):
                jobs += [
                    NewJob(id=f"enqueued-{type}-{level.label}-{group}-{n}", type=type, priority=level, group=group)
                    for n in (1, 2)
                ]
        jobs += [
            NewJob(id=f"scheduled-{type}-{n}", type=type, delay_ms=1000 * (10 - n), tags=("red",)) for n in range(5)
        ]
    await store.submit_many(jobs)


async def test_pages_are_complete(store: Store) -> None:
    """Pages of any size together hold every job once: running and waiting ones first, then finished ones."""
    await populate(store)

    whole = await walk(store, limit=1000)

    assert len(whole) == len(set(whole)) == sum((await store.stats()).counts.values())
    states = [id.split("-")[0] for id in whole]
    assert list(dict.fromkeys(states)) == ["processing", "enqueued", "scheduled", "failed", "completed", "cancelled"]
    for limit in (3, 10, len(whole), len(whole) + 1):
        assert await walk(store, limit=limit) == whole


async def test_order(store: Store) -> None:
    """Waiting jobs come in the order in which they will be seen to, finished ones with the latest first."""
    await populate(store)

    scheduled = await walk(store, JobFilter(states=(State.SCHEDULED,), type="mail"))
    assert scheduled == [f"scheduled-mail-{n}" for n in (4, 3, 2, 1, 0)]
    failed = [(await store.get(id)).finished_ms or 0 for id in await walk(store, JobFilter(states=(State.FAILED,)))]
    assert failed == sorted(failed, reverse=True)
    levels = [id.split("-")[2] for id in await walk(store, JobFilter(states=(State.ENQUEUED,), type="mail"))]
    assert list(dict.fromkeys(levels)) == ["urgent", "high", "normal", "low"]
    lane = JobFilter(states=(State.ENQUEUED,), type="mail", priority=Priority.HIGH, group="b:c")
    assert await walk(store, lane) == ["enqueued-mail-high-b:c-1", "enqueued-mail-high-b:c-2"]


FILTERS = {
    "a state": JobFilter(states=(State.COMPLETED,)),
    "two states": JobFilter(states=(State.FAILED, State.ENQUEUED)),
    "a type": JobFilter(type="report"),
    "a level": JobFilter(priority=Priority.URGENT),
    "a group": JobFilter(group="acme"),
    "a group with a colon": JobFilter(group="b:c"),
    "a tag": JobFilter(tag="red"),
    "a tag and a type": JobFilter(tag="red", type="mail"),
    "a tag and another state": JobFilter(tag="red", states=(State.FAILED,)),
    "no such type": JobFilter(type="other"),
    "no such tag": JobFilter(tag="blue"),
    "several": JobFilter(states=(State.ENQUEUED,), type="mail", priority=Priority.LOW, group="acme"),
}


async def test_filters(store: Store) -> None:
    """A filter lets through what matches all that it names, and nothing else."""
    await populate(store)
    jobs = (await store.list(limit=1000)).items
    for name, filter in FILTERS.items():
        expected = {
            job.id
            for job in jobs
            if (not filter.states or job.state in filter.states)
            and (filter.type is None or job.type == filter.type)
            and (filter.priority is None or job.priority == filter.priority)
            and (filter.group is None or job.group == filter.group)
            and (filter.tag is None or filter.tag in job.tags)
        }

        found = await walk(store, filter, limit=9)

        assert (name, sorted(found)) == (name, sorted(expected))


async def test_times(store: Store) -> None:
    """Jobs are found by when they were created: from `after` on, and before `before`."""
    for n in range(5):
        await store.submit_many([NewJob(id=f"job-{n}", type="mail")], now=1_700_000_000_000 + n)

    found = await walk(store, JobFilter(created_after_ms=1_700_000_000_001, created_before_ms=1_700_000_000_004))

    assert found == ["job-1", "job-2", "job-3"]


async def test_a_listed_job_is_whole(store: Store) -> None:
    """A page holds jobs as `get` tells them."""
    await populate(store)

    page = await store.list(limit=1000)

    assert page.items == [await store.get(job.id) for job in page.items]


@pytest.mark.parametrize("state", [State.FAILED, State.ENQUEUED])
async def test_a_cursor_outlives_its_job(store: Store, state: State) -> None:
    """When the last job of a page is gone, the next page goes on from where it was; nothing that stayed is missed."""
    filter = JobFilter(states=(state,))
    await populate(store)
    whole = await walk(store, filter)
    page = await store.list(filter, 3)
    await store.delete(whole[2])

    rest = [job.id for job in (await store.list(filter, 100, page.next_cursor)).items]

    assert set(whole[3:]) <= set(rest) <= set(whole)


async def test_a_cursor_outlives_its_lane(store: Store) -> None:
    """When the lane in which a page ended has run empty, the next page goes on with the lane behind it."""
    for group in ("a", "b", "c"):
        await fill(store, group, 3, type="mail", group=group)
    page = await store.list(limit=5)
    for n in (1, 2, 3):
        await store.delete(f"b-{n}")

    rest = [job.id for job in (await store.list(limit=100, cursor=page.next_cursor)).items]

    assert rest == ["c-1", "c-2", "c-3"]


async def test_walking_while_jobs_are_taken(store: Store) -> None:
    """Jobs that wait all the while are all met, whatever is taken and stored between two pages."""
    rng = random.Random(7)
    stay = await fill(store, "stay", 30, type="report", group="x")
    session = await store.open_session("node", 15.0)
    ids: list[str] = []
    cursor: str | None = None
    await fill(store, "go", 40, type="mail")
    while True:
        page = await store.list(JobFilter(states=(State.ENQUEUED,)), 5, cursor)
        ids += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        await take(store, session, Pool.of(["mail"]), rng.randrange(4))
        await fill(store, f"new-{len(ids)}", rng.randrange(3), type="mail")

    assert set(stay) <= set(ids)


def cursor_of(*parts: str) -> str:
    return base64.urlsafe_b64encode("\n".join(parts).encode()).decode().rstrip("=")


BAD_CURSORS = {
    "empty": "",
    "no cursor": "x",
    "not base64": "%%%%",
    "not ASCII": "čursor",
    "not UTF-8": "____",
    "too few parts": cursor_of("6", "1"),
    "too many parts": cursor_of("6", "1", "id", "more"),
    "no number": cursor_of("6", "x", "id"),
    "a number of Python's only": cursor_of("6", "1_000", "id"),
    "not a number": cursor_of("6", "nan", "id"),
    "infinity": cursor_of("6", "inf", "id"),
    "a number with spaces": cursor_of("6", " 1 ", "id"),
}


async def test_bad_cursors(store: Store) -> None:
    """Text that no list has given out is refused as a ValueError, and never reaches the server."""
    session = await store.open_session("node", 15.0)
    await fill(store, "mail", 1)
    await store.fail((await store.claim(session, POOL, 1)).leases[0], b"{}")

    for cursor in BAD_CURSORS.values():
        with pytest.raises(ValueError, match="cursor"):
            await store.list(cursor=cursor)


async def test_a_cursor_of_another_filter(store: Store) -> None:
    """A cursor that belongs to another filter breaks nothing."""
    await populate(store)
    cursor = (await store.list(JobFilter(tag="red"), 2)).next_cursor

    page = await store.list(JobFilter(states=(State.FAILED,)), 100, cursor)

    assert len(page.items) == 8


async def test_a_cursor_before_a_lane(store: Store) -> None:
    """A page may end between two lanes, when a filter has left very many out; the next goes on there."""
    for start in (0, 1000):
        await store.submit_many([NewJob(type=f"t{n:04}") for n in range(start, start + 1000)])
    await fill(store, "found", 3, type="t1500", group="acme")
    filter = JobFilter(states=(State.ENQUEUED,), group="acme")

    first = await store.list(filter, 2)
    second = await store.list(filter, 2, first.next_cursor)
    assert (first.items, [job.id for job in second.items]) == ([], ["found-1", "found-2"])

    assert await walk(store, filter, limit=2) == ["found-1", "found-2", "found-3"]


async def test_groups_that_come_and_go(store: Store) -> None:
    """Groups are walked by name, whatever turn they have; what has gone or come behind the cursor is no matter."""
    groups = ["", *(f"g{n:03}" for n in range(250))]
    for group in reversed(groups):
        await fill(store, f"of-{group}", 1, type="mail", group=group)
    session = await store.open_session("node", 15.0)
    taken = await take(store, session, Pool.of(["mail"]), 100)
    await fill(store, "of-g005", 2, type="mail", group="g005")

    ids = await walk(store, JobFilter(states=(State.ENQUEUED,), type="mail"), limit=13)

    left = [f"of-{group}-{n}" for group in groups for n in (1, 2) if n == 1 or group == "g005"]
    assert ids == [id for id in left if id not in taken or group_of(id) == "g005"]


def group_of(id: str) -> str:
    return id.split("-")[1]


async def test_a_page_costs_the_same_beside_many_groups(valkey_store: Store) -> None:
    """A page reads as many groups as it shows jobs of, however many more there are."""

    async def page(filter: JobFilter, cursor: str | None = None) -> int:
        return sum((await cost(valkey_store, lambda: valkey_store.list(filter, 10, cursor))).values())

    filters = [JobFilter(), JobFilter(type="mail"), JobFilter(type="mail", group="g1")]
    await valkey_store.submit_many([NewJob(type="mail", group=f"g{n}") for n in range(10)])
    few = [await page(filter) for filter in filters]
    for start in range(10, 4_010, 1000):
        await valkey_store.submit_many([NewJob(type="mail", group=f"g{n}") for n in range(start, start + 1000)])

    for filter, before in zip(filters, few, strict=True):
        assert await page(filter) <= 1.5 * before
        assert await page(filter, (await valkey_store.list(filter, 10)).next_cursor) <= 1.5 * before
