"""What the store pushes: the end of a job that somebody waits for, and the wish to cancel one that runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gopher_node.errors import JobNotFound, StoreUnavailable
from gopher_node.job import Job, Lease, NewJob, State
from gopher_node.store import Connections, Session, Store
from gopher_node.store.watching import Watching
from tests.store.conftest import OpenStore
from tests.store.keyspace import command
from tests.store.lives import FAR, TYPE, claim_one
from tests.store.relay import relay_to

LONG = 30.0


async def run_one(store: Store) -> tuple[Lease, Session]:
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    return await claim_one(store, session), session


async def listening(store: Store, *, times: int = 1) -> None:
    """Until the store hears what is published; `times` counts its connections."""
    await _until(store, lambda: len(_subscribed(store)) >= times)


def _subscribed(store: Store) -> list[str]:
    return store.__dict__.setdefault("heard_by_test", [])


async def _until(store: Store, true: Callable[[], bool]) -> None:
    changed: asyncio.Event = store.__dict__["changed_by_test"]
    while not true():
        changed.clear()
        await changed.wait()


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store tells the test each time it has caught up after (re)connecting."""
    original = Watching._catch_up

    async def look_and_tell(watching: Watching) -> None:
        await original(watching)
        store = of[watching]
        _subscribed(store).append("ended")
        store.__dict__.setdefault("changed_by_test", asyncio.Event()).set()

    original_init = Store.__init__

    def init(store: Store, *args: Any, **options: Any) -> None:
        original_init(store, *args, **options)
        store.__dict__["changed_by_test"] = asyncio.Event()
        of[store._watching] = store

    of: dict[Watching, Store] = {}
    monkeypatch.setattr(Store, "__init__", init)
    monkeypatch.setattr(Watching, "_catch_up", look_and_tell)


@contextlib.asynccontextmanager
async def waiting(store: Store, id: str, timeout: float = LONG) -> AsyncIterator[asyncio.Task[Job]]:
    """Somebody who waits for the job, and is heard by the server."""
    task = asyncio.create_task(store.wait(id, timeout))
    await listening(store)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, JobNotFound):
            await task


Ending = Callable[[Store, Lease, Session], Awaitable[Any]]


async def reap_overdue(store: Store) -> None:
    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)


async def cancel_and(store: Store, lease: Lease, then: Awaitable[Any]) -> None:
    await store.cancel(lease.job.id)
    await then


ENDINGS: dict[str, tuple[Ending, State]] = {
    "complete": (lambda store, lease, session: store.complete(lease), State.COMPLETED),
    "fail": (lambda store, lease, session: store.fail(lease, b"{}"), State.FAILED),
    "cancelled": (lambda store, lease, session: store.cancelled(lease), State.CANCELLED),
    "cancel, release": (
        lambda store, lease, session: cancel_and(store, lease, store.release(lease)),
        State.CANCELLED,
    ),
    "cancel, close the session": (
        lambda store, lease, session: cancel_and(store, lease, store.close_session(session)),
        State.CANCELLED,
    ),
    "cancel, reap the session": (
        lambda store, lease, session: cancel_and(store, lease, store.reap_session(session.id, 0)),
        State.CANCELLED,
    ),
    "cancel, reap the overdue": (
        lambda store, lease, session: cancel_and(store, lease, reap_overdue(store)),
        State.CANCELLED,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_whoever_waits_hears_of_every_end(store: Store, ending: str) -> None:
    """However a running job ends, whoever waits for it is told at once, and gets it as it is then."""
    lease, session = await run_one(store)
    act, state = ENDINGS[ending]
    async with waiting(store, lease.job.id) as task:
        await act(store, lease, session)

        assert (await task).state is state
        assert await store.get(lease.job.id) == task.result()


async def test_a_waiting_job_that_is_cancelled(store: Store) -> None:
    """A job that never ran ends too."""
    job = NewJob(type=TYPE)
    await store.submit(job)
    async with waiting(store, job.id) as task:
        await store.cancel(job.id)

        assert (await task).state is State.CANCELLED


@pytest.mark.parametrize("delay_ms", [None, 60_000], ids=["enqueued", "scheduled"])
@pytest.mark.parametrize("way", ["delete", "purge"])
async def test_a_job_that_goes_while_somebody_waits(store: Store, way: str, delay_ms: int | None) -> None:
    """Nobody waits to the end of their patience for a job that an operator has taken away."""
    job = NewJob(type=TYPE, delay_ms=delay_ms)
    await store.submit(job)
    async with waiting(store, job.id) as task:
        await (store.delete(job.id) if way == "delete" else store.purge(TYPE))

        with pytest.raises(JobNotFound):
            await task


async def test_a_job_that_has_ended(store: Store) -> None:
    """To wait for a job that has ended is to get it."""
    lease, _ = await run_one(store)
    await store.complete(lease, b"1")

    assert (await store.wait(lease.job.id, LONG)).result == b"1"


async def test_an_unknown_job(store: Store) -> None:
    """To wait for a job that nobody knows is an error at once."""
    with pytest.raises(JobNotFound):
        await store.wait("nobody", LONG)


@pytest.mark.parametrize("timeout", [0.0, 0.01])
async def test_a_wait_that_is_over(store: Store, timeout: float) -> None:
    """After its time a wait returns the job as it is, and leaves nothing behind."""
    lease, _ = await run_one(store)

    assert (await store.wait(lease.job.id, timeout)).state is State.PROCESSING

    assert store._watching._waiting == {}


async def test_a_job_that_ends_between_two_looks(store: Store) -> None:
    """A job that ends after the waiter has looked and before it listens is not missed."""
    lease, _ = await run_one(store)
    look = store._watching._mark
    looked: list[str] = []

    async def look_and_let_it_end(id: str, what: str) -> None:
        await look(id, what)
        looked.append(id)
        if len(looked) == 1:
            await store.complete(lease)

    store._watching._mark = look_and_let_it_end

    assert (await store.wait(lease.job.id, LONG)).state is State.COMPLETED


async def test_many_wait(store: Store, open_store: OpenStore) -> None:
    """Many may wait for one job, and for many, in this node and in others; each hears of its own."""
    other = await open_store()
    leases = [(await run_one(store))[0] for _ in range(5)]
    tasks = [
        asyncio.create_task(node.wait(lease.job.id, LONG))
        for node in (store, other)
        for lease in leases
        for _ in range(3)
    ]
    await asyncio.gather(listening(store), listening(other))

    await store.complete(leases[2])
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for lease in leases:
        await store.complete(lease)

    assert {task.result().id for task in done} == {leases[2].job.id}
    assert {task.result().state for task in (await asyncio.wait(rest))[0]} == {State.COMPLETED}
    assert len(tasks) == 30


async def test_a_waiter_that_gives_up(store: Store) -> None:
    """A waiter that is cancelled leaves others who wait for the same job alone."""
    lease, _ = await run_one(store)
    async with waiting(store, lease.job.id) as stays, waiting(store, lease.job.id) as leaves:
        leaves.cancel()
        await asyncio.wait([leaves])

        await store.complete(lease)

        assert (await stays).state is State.COMPLETED
    assert store._watching._waiting == {}


# Connections that break, on a real server only: a fake one has none that could.


async def test_a_killed_subscription(valkey_store: Store) -> None:
    """When the server closes the subscription, what ended before the next one stands is found out by asking."""
    store = valkey_store
    lease, _ = await run_one(store)
    async with waiting(store, lease.job.id) as task:
        await command(store, "CLIENT", "KILL", "TYPE", "pubsub")
        await store.complete(lease)

        assert (await task).state is State.COMPLETED


async def test_it_hears_again_after_a_killed_subscription(valkey_store: Store) -> None:
    """After reconnecting, a store hears as before."""
    store = valkey_store
    lease, _ = await run_one(store)
    async with waiting(store, lease.job.id) as task:
        await command(store, "CLIENT", "KILL", "TYPE", "pubsub")
        await listening(store, times=2)

        await store.complete(lease)

        assert (await task).state is State.COMPLETED


async def test_a_network_that_is_cut(valkey_url: str, valkey_store: Store) -> None:
    """A subscription whose other end is gone without a word is found dead by asking, and replaced."""
    lease, _ = await run_one(valkey_store)
    async with relay_to(valkey_url) as relay:
        far = Store(Connections(relay.url, timeout=0.2), namespace=valkey_store.namespace)
        await far.open()
        far._listener.quiet = 0.05
        async with waiting(far, lease.job.id) as task:
            relay.freeze()
            await valkey_store.complete(lease)

            assert (await task).state is State.COMPLETED
        await far.close()


async def test_a_quiet_subscription_is_kept(valkey_url: str, valkey_store: Store) -> None:
    """A connection on which nothing happens stays, for its server answers when it is asked."""
    lease, _ = await run_one(valkey_store)
    valkey_store._listener.quiet = 0.15
    async with waiting(valkey_store, lease.job.id) as task:
        assert not (await asyncio.wait([task], timeout=0.4))[0]
        await valkey_store.complete(lease)
        await task

    assert len(_subscribed(valkey_store)) == 1


# Cancellations


@contextlib.asynccontextmanager
async def hearing(store: Store, session: Session) -> AsyncIterator[AsyncIterator[str]]:
    async with contextlib.aclosing(store.cancellations(session)) as wanted:  # type: ignore[type-var]
        yield wanted


async def test_a_holder_hears_whom_to_cancel(store: Store, open_store: OpenStore) -> None:
    """The wish to cancel a running job reaches its holder, from any node, whether it was spoken before or after."""
    other = await open_store()
    session = await store.open_session("node", 15.0)
    leases: list[Lease] = []
    for _ in range(3):
        await store.submit(NewJob(type=TYPE))
        leases.append(await claim_one(store, session))
    await other.cancel(leases[0].job.id)

    async with hearing(store, session) as wanted:
        assert await anext(wanted) == leases[0].job.id
        await other.cancel(leases[2].job.id)
        assert await anext(wanted) == leases[2].job.id


async def test_two_sessions_hear_their_own(store: Store) -> None:
    """A holder hears of its own jobs only, also when both listen through one store."""
    (first, one), (second, two) = await run_one(store), await run_one(store)
    async with hearing(store, one) as to_one, hearing(store, two) as to_two:
        heard = [asyncio.ensure_future(anext(wanted)) for wanted in (to_one, to_two)]
        await store.cancel(second.job.id)
        assert await heard[1] == second.job.id
        await store.cancel(first.job.id)
        assert await heard[0] == first.job.id


async def test_a_cancellation_during_an_outage(valkey_store: Store) -> None:
    """A wish that was spoken while nobody could hear it is heard after reconnecting."""
    store = valkey_store
    lease, session = await run_one(store)
    marker, _ = await run_one(store)
    async with hearing(store, session) as wanted, waiting(store, marker.job.id):
        heard = asyncio.ensure_future(anext(wanted))
        await asyncio.wait([heard], timeout=0)
        await command(store, "CLIENT", "KILL", "TYPE", "pubsub")
        await store.cancel(lease.job.id)

        assert await heard == lease.job.id


async def test_a_session_that_ended_hears_nothing_more(store: Store) -> None:
    """Whoever stops listening leaves the subscription of others as it was."""
    lease, session = await run_one(store)
    async with hearing(store, session) as wanted:
        await store.cancel(lease.job.id)
        await anext(wanted)
    job = NewJob(type=TYPE)
    await store.submit(job)
    async with waiting(store, job.id) as task:
        await store.cancel(job.id)

        assert (await task).state is State.CANCELLED


async def test_a_connection_that_breaks_while_it_is_closed(
    valkey_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error hides the cancellation, and the listener must end all the same."""
    connections = valkey_store._connections
    dedicated = connections.dedicated

    @contextlib.asynccontextmanager
    async def breaking() -> AsyncIterator[Any]:
        async with dedicated() as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                raise StoreUnavailable("broken") from None

    monkeypatch.setattr(connections, "dedicated", breaking)
    job = await valkey_store.submit(NewJob(type=TYPE))
    async with waiting(valkey_store, job.id):
        await listening(valkey_store)
        async with asyncio.timeout(10):
            await valkey_store._listener.close()
