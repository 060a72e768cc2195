"""Jobs that are claimed by their id and settled without a token; tokens as text; errors counted before the end."""

from __future__ import annotations

import pytest

from gopher_node.errors import InvalidState, JobNotFound
from gopher_node.job import NewJob, State, Token
from gopher_node.store import Pool, Store
from tests.store.keyspace import differences, dump
from tests.store.lanes import fill, take
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_leases import ERROR, beat, lapse, lease_one, time
from tests.store.test_told_twice import Echo

# By its id


async def test_one_job_is_taken_out_of_its_lane(store: Store) -> None:
    """A job is claimed from the middle of its lane, whole, and the others keep their order."""
    now = await time(store)
    job = NewJob(type=TYPE, id="this", payload=b'"' + b"x" * 2000 + b'"', tags=("red",), timeout_ms=60_000)
    await fill(store, "before", 2)
    await store.submit(job)
    await fill(store, "after", 2)

    lease = await store.leases.claim_job("this", lease=20.0, worker="printer", now=now)

    assert (lease.job.id, lease.job.attempt, lease.job.payload, lease.job.tags) == ("this", 1, job.payload, ("red",))
    assert lease.expires_ms == now + 20_000
    assert (await store.get("this")).node == "http:printer"
    assert await take(store, await store.open_session("node", 15.0), POOL, 9) == [
        "before-1",
        "before-2",
        "after-1",
        "after-2",
    ]
    assert await beat(store, lease, now + 80_000) is not None
    (run,) = [run for run in (await store.survey(now=now + 95_000)).overdue if run.id == "this"]
    assert run.deadline_ms == now + 90_000


async def test_a_group_whose_last_job_is_taken_leaves_the_turns(store: Store) -> None:
    """A lane that runs empty by it stands in nobody's way, and the groups beside it keep their turns."""
    await fill(store, "a", 1, group="a")
    await fill(store, "b", 2, group="b")
    session = await store.open_session("node", 15.0)
    await store.claim(session, Pool.of(["other"]), 1)

    await store.leases.claim_job("a-1")

    assert await take(store, session, POOL, 9) == ["b-1", "b-2"]
    await store.submit(NewJob(type="other", id="last"))
    await store.leases.claim_job("last")
    assert await take(store, session, Pool.of(["other"]), 9) == []


@pytest.mark.parametrize("state", ["scheduled", "completed", "processing"])
async def test_only_an_enqueued_job_can_be_claimed(store: Store, state: str) -> None:
    """Any other is refused with the state that it is in, and nothing is changed."""
    await store.submit(NewJob(type=TYPE, id="this", delay_ms=60_000 if state == "scheduled" else None))
    if state != "scheduled":
        lease = await lease_one(store)
        if state == "completed":
            await store.complete(lease)
    before = await dump(store)

    with pytest.raises(InvalidState, match=f"is {state}; only a job that is enqueued") as caught:
        await store.leases.claim_job("this")

    assert caught.value.state == state
    assert await store.leases.open_token("this") is None
    with pytest.raises(JobNotFound):
        await store.leases.claim_job("nobody")
    assert differences(before, await dump(store)) == []


async def test_a_claim_of_a_job_told_again(store: Store) -> None:
    """The same claim id gets the same lease while it holds the job; late, when it does no more, it gets nothing."""
    await store.submit(NewJob(type=TYPE, id="this"))
    echo = Echo(store)
    first = await store.leases.claim_job("this", claim_id="one")
    assert echo.faults == []

    again = await store.leases.claim_job("this", claim_id="one")

    assert (again.token, again.expires_ms) == (first.token, first.expires_ms)
    with pytest.raises(InvalidState):
        await store.leases.claim_job("this", claim_id="two")
    await store.release(first)
    with pytest.raises(InvalidState, match="is enqueued again: this claim has had it"):
        await store.leases.claim_job("this", claim_id="one")
    assert (await store.leases.claim_job("this", claim_id="two")).job.attempt == 2


async def test_an_open_job_is_settled_by_whoever_knows_its_id(store: Store) -> None:
    """The token of a job that was claimed by its id is told to all, as long as it runs; of any other to none."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE, id=id) for id in ("other", "this")])
    await lease_one(store)
    lease = await store.leases.claim_job("this", now=now)

    token = await store.leases.open_token("this")

    assert token == lease.token
    assert await store.leases.open_token("other") is None
    assert await store.leases.open_token("nobody") is None
    assert token is not None
    assert await store.progress(token, b"0.5")
    assert await store.retry(token, ERROR, 0.0) is State.ENQUEUED
    assert await store.leases.open_token("this") is None
    await claim_one(store, await store.open_session("node", 15.0))
    assert await store.leases.open_token("this") is None


async def test_an_open_job_lapses_like_others(store: Store) -> None:
    """Nobody who claims a job by its id keeps it for ever."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE, id="this"))
    await store.leases.claim_job("this", lease=5.0, now=now)

    assert await lapse(store, now + 5000) == 1

    assert (await store.get("this")).state is State.ENQUEUED
    assert await store.leases.open_token("this") is None


# Tokens


@pytest.mark.parametrize("id", ["1b4e28ba-2fa1-11d2-883f-0016d3cca427", "a.b.3"])
def test_a_token_reads_as_it_is_written(id: str) -> None:
    """A token survives being sent as text, and hides its nonce where it is shown."""
    token = Token(id, 12, "0123456789abcdef")

    assert Token.parse(str(token)) == token
    assert "0123456789abcdef" not in repr(token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id",
        "id.1",
        ".1.0123456789abcdef",
        "id.0.0123456789abcdef",
        "id.01.0123456789abcdef",
        "id.-1.0123456789abcdef",
        "id.x.0123456789abcdef",
        "id.1.0123456789ABCDEF",
        "id.1.0123456789abcde",
        "id.1.0123456789abcdef0",
        "id.1.0123456789abcdef\n",
        "id.\u0661.0123456789abcdef",
        "\udcff.1.0123456789abcdef",
        "i d.1.0123456789abcdef",
        "id." + "9" * 5000 + ".0123456789abcdef",
        "i" * 201 + ".1.0123456789abcdef",
    ],
)
def test_what_is_no_token(text: str) -> None:
    """Only what could have been given out is taken for a token."""
    with pytest.raises(ValueError, match="token"):
        Token.parse(text)


async def test_a_token_settles_like_its_lease(store: Store) -> None:
    """A token that was sent as text settles its run; said otherwise afterwards, it is told how that ended."""
    await store.submit_many([NewJob(type=TYPE, id=id) for id in ("one", "two")])
    one, two = [Token.parse(str(lease.token)) for lease in (await store.leases.claim(POOL, 2)).leases]
    assert await store.fail(one, ERROR) is State.FAILED
    before = await dump(store)

    assert await store.complete(one, b"1", [NewJob(type="child")]) is State.FAILED

    assert differences(before, await dump(store)) == []
    assert await store.complete(two, b"1") is State.COMPLETED
    assert await store.fail(two, ERROR) is State.COMPLETED


# Errors that are counted before the end


@pytest.mark.parametrize("by", ["http", "node"])
async def test_an_error_is_counted_once(store: Store, by: str) -> None:
    """However often a run's error is counted, it is one, and so it is when the run ends in it."""
    session = await store.open_session("node", 15.0)
    await store.submit(NewJob(type=TYPE, max_retries=3))
    lease = await lease_one(store) if by == "http" else await claim_one(store, session)
    echo = Echo(store)

    assert await store.leases.count_error(lease) == 1
    assert await store.leases.count_error(lease.token) == 1
    assert (await store.get(lease.job.id)).errors == 1
    assert await store.retry(lease, ERROR, 0.0) is State.ENQUEUED

    assert echo.faults == []
    assert (await store.get(lease.job.id)).errors == 1
    assert await store.leases.count_error(lease) is None
    second = await lease_one(store)
    assert await store.retry(second, ERROR, 0.0) is State.ENQUEUED
    assert (await store.get(lease.job.id)).errors == 2


@pytest.mark.parametrize("said", ["retry", "count, retry", "count, release"])
async def test_the_budget_is_the_same_however_errors_are_counted(store: Store, said: str) -> None:
    """`max_retries` 1 means two runs that end in an error, also if that was counted before the job was handed back."""
    id = (await store.submit(NewJob(type=TYPE, max_retries=1))).id
    states: list[State | None] = []
    for _ in range(2):
        lease = await lease_one(store)
        if said.startswith("count"):
            await store.leases.count_error(lease)
        states.append(await (store.release(lease) if said.endswith("release") else store.retry(lease, ERROR, 0.0)))

    assert states == [State.ENQUEUED, State.FAILED]
    job = await store.get(id)
    assert (job.errors, job.attempt) == (2, 2)
    await store.requeue(job.id)
    assert await store.leases.count_error(await lease_one(store)) == 1


async def test_a_counted_error_stays_whatever_the_end(store: Store) -> None:
    """A run whose error was counted and that is released, or lapses, does not take that back; the next counts anew."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store)
    await store.leases.count_error(lease)
    await store.release(lease)
    lease = await lease_one(store, now=now)
    await store.leases.count_error(lease)
    await lapse(store, now + 30_000)

    assert (await store.get(lease.job.id)).errors == 2
