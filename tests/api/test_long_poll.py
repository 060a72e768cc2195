"""Claims that wait: woken at once, in turn, at one cost for all, and nothing stays claimed for those who have gone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gopher_node.api.http_work import long_poll
from gopher_node.api.http_work.long_poll import LongPoll, Order
from gopher_node.api.resources.leases import LONG_POLL
from gopher_node.errors import OutcomeUnknown, StoreError, StoreUnavailable
from gopher_node.handlers import Registry
from gopher_node.job import Lease, NewJob, State
from gopher_node.settings import WorkerSettings
from gopher_node.store import Claimed, Pool, Store
from tests.api.conftest import Api
from tests.store.keyspace import dump

LEASES = "/api/v1/leases"


class CountingStore:
    """A real store that counts what it is asked, and can hold its answers back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[str] = []
        self.answered = 0
        self.listening = 0
        self.listened = 0
        self.released: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.news = asyncio.Condition()
        self.trouble: Exception | None = None
        self.leases = self

    async def claim(self, pool: Pool, limit: int, **options: Any) -> Claimed:
        await self._tell(lambda: self.asked.append(options["waiter"]))
        if self.trouble is not None:
            raise self.trouble
        claimed = await self._store.leases.claim(pool, limit, **options)
        self.answered += 1
        await self._tell(lambda: None)
        await self.gate.wait()
        return claimed

    async def wait_for_work(self, pool: Pool, timeout: float) -> bool:
        await self._tell(lambda: None, listening=1)
        self.listened += 1
        try:
            return await self._store.wait_for_work(pool, timeout)
        finally:
            self.listening -= 1

    async def pass_on(self, pool: Pool) -> None:
        await self._store.leases.pass_on(pool)

    async def release(self, lease: Lease) -> State | None:
        state = await self._store.release(lease)
        await self._tell(lambda: self.released.append(lease.job.id))
        return state

    async def _tell(self, change: Callable[[], Any], *, listening: int = 0) -> None:
        async with self.news:
            change()
            self.listening += listening
            self.news.notify_all()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(condition)


@pytest.fixture
def counting(store: Store) -> CountingStore:
    return CountingStore(store)


@pytest.fixture
async def poll(counting: CountingStore) -> AsyncIterator[LongPoll]:
    poll = LongPoll(counting, Registry(), WorkerSettings())  # type: ignore[arg-type]
    yield poll
    await poll.close()


def order(*types: str, **options: Any) -> Order:
    return Order(pool=Pool.of(types or ("a",)), **{"limit": 1, "lease": 30.0, **options})


def waiting(poll: LongPoll, *types: str, wait: float = 30.0, **options: Any) -> asyncio.Task[list[Lease]]:
    return asyncio.create_task(poll.claim(order(*types, **options), wait))


async def submit(store: Store, count: int = 1, type: str = "a") -> list[str]:
    return [one.id for one in await store.submit_many([NewJob(type=type) for _ in range(count)])]


async def until(condition: Callable[[], object]) -> None:
    """For what nothing reports: how many stand in line."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def two_nodes(store: CountingStore) -> AsyncIterator[tuple[LongPoll, LongPoll]]:
    """They look by themselves so seldom that only a wake-up can have come."""
    settings = WorkerSettings(poll_interval=60.0)
    first, second = (LongPoll(store, Registry(), settings) for _ in range(2))  # type: ignore[arg-type]
    yield first, second
    await first.close()
    await second.close()


async def gone(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class TestLine:
    async def test_job_that_is_there_is_had_at_once(self, poll: LongPoll, store: Store) -> None:
        (id,) = await submit(store)
        (lease,) = await poll.claim(order(), 0)

        assert lease.job.id == id
        assert await poll.claim(order(), 0) == []

    async def test_waiting_ends(self, poll: LongPoll) -> None:
        began = time.monotonic()

        assert await poll.claim(order(), 0.1) == []
        assert 0.09 < time.monotonic() - began < 2

    async def test_first_come_first_served(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        """Also by those who cannot wait and come later."""
        tasks = [waiting(poll) for _ in range(5)]
        await counting.until(lambda: counting.listening)
        ids = await submit(store, 5)
        hasty = await poll.claim(order(), 0)
        leases = [(await task)[0] for task in tasks]

        assert [lease.job.id for lease in leases] == ids
        assert hasty == []

    async def test_those_who_cannot_wait_have_what_the_others_leave(self, poll: LongPoll, store: Store) -> None:
        first = waiting(poll)
        ids = await submit(store, 2)
        hasty = await poll.claim(order(), 0)

        assert [(await first)[0].job.id, hasty[0].job.id] == ids

    async def test_who_comes_while_another_is_told_of_nothing_is_not_told_that(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        """A claim sees all that was stored before it was made."""
        counting.gate.clear()
        first = asyncio.create_task(poll.claim(order(), 0))
        await counting.until(lambda: counting.answered)
        (id,) = await submit(store)
        second = asyncio.create_task(poll.claim(order(), 0))
        await asyncio.sleep(0)
        counting.gate.set()

        assert await first == []
        assert (await second)[0].job.id == id

    async def test_one_asks_for_all(self, poll: LongPoll, counting: CountingStore) -> None:
        """A thousand who wait for one pool cost what one does: one connection, and about one claim a second."""
        began = time.monotonic()
        tasks = [waiting(poll, wait=2.5) for _ in range(500)]
        await counting.until(lambda: counting.listening)
        for _ in range(500):
            tasks.append(waiting(poll, wait=2.5))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        seconds = time.monotonic() - began

        assert counting.listened <= seconds / 0.75 + 1
        assert len(counting.asked) <= seconds / 0.75 + 2
        assert len(set(counting.asked)) == 1

    async def test_who_waits_behind_one_who_could_not_is_woken(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        """The store wakes only for those who told it that they would wait."""
        counting.gate.clear()
        hasty = asyncio.create_task(poll.claim(order(), 0))
        await counting.until(lambda: counting.asked)
        patient = waiting(poll)
        await asyncio.sleep(0)
        counting.gate.set()
        await hasty
        await counting.until(lambda: counting.listening)
        began = time.monotonic()
        await submit(store)
        await patient

        assert time.monotonic() - began < 0.3

    async def test_line_that_hears_nothing_asks_again(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        """A wake-up that is lost costs a second at most."""

        async def deaf(pool: Pool, timeout: float) -> bool:
            await asyncio.sleep(timeout)
            return False

        counting.wait_for_work = deaf  # type: ignore[method-assign]
        task = waiting(poll)
        await counting.until(lambda: counting.answered)
        (id,) = await submit(store)
        async with asyncio.timeout(2):
            assert (await task)[0].job.id == id

    async def test_line_asks_again_before_the_store_forgets_it(self, counting: CountingStore) -> None:
        """However seldom nodes look by themselves."""
        patience: list[float] = []

        async def listen(pool: Pool, timeout: float) -> bool:
            patience.append(timeout)
            return False

        counting.wait_for_work = listen  # type: ignore[method-assign]
        poll = LongPoll(counting, Registry(), WorkerSettings(poll_interval=60.0))  # type: ignore[arg-type]
        assert not await poll.listen(Pool.of(["a"]))
        await poll.close()

        assert 5 < patience[0] <= 10

    async def test_nothing_is_asked_while_nobody_waits(self, poll: LongPoll, counting: CountingStore) -> None:
        await poll.claim(order(), 0.05)
        asked, listened = len(counting.asked), counting.listened
        async with asyncio.timeout(0.6):  # sooner than the wait for a wake-up would end by itself
            await until(lambda: not counting.listening)
            # A line that is gone asks nothing any more.
            await until(lambda: not poll._lines)  # pyright: ignore[reportPrivateUsage]

        assert (len(counting.asked), counting.listened, poll.waiting) == (asked, listened, 0)

    async def test_work_for_all_is_had_by_all(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        """A thousand who wait, a thousand jobs: each gets one, and soon."""
        tasks = [waiting(poll) for _ in range(1000)]
        await counting.until(lambda: counting.listening)
        began = time.monotonic()
        ids = await submit(store, 1000)
        leases = [(await task)[0] for task in tasks]

        assert sorted(lease.job.id for lease in leases) == sorted(ids)
        assert time.monotonic() - began < 5


class TestGone:
    async def test_while_waiting(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        """The next job is the next one's."""
        first, second = waiting(poll), waiting(poll)
        await counting.until(lambda: counting.listening)
        await gone(first)
        (id,) = await submit(store)

        assert (await second)[0].job.id == id
        assert counting.released == []

    async def test_while_claiming(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        """What the claim under way brings is given back at once, at no cost to the job."""
        counting.gate.clear()
        (id,) = await submit(store)
        task = waiting(poll)
        await counting.until(lambda: counting.asked)
        await gone(task)
        counting.gate.set()
        await counting.until(lambda: counting.released)
        job = await store.get(id)

        assert counting.released == [id]
        assert (job.state, job.errors, job.crashes) == (State.ENQUEUED, 0, 0)

    async def test_as_the_answer_comes(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        (id,) = await submit(store)
        one = order()
        task = asyncio.create_task(poll.claim(one, 30))
        one.answer.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        await counting.until(lambda: counting.released)

        assert counting.released == [id]

    async def test_repeat_of_a_claim_with_a_key_has_its_jobs(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        """Here or at another node: who lost its caller takes them from under nobody, not even when it drains."""
        counting.gate.clear()
        (id,) = await submit(store)
        task = waiting(poll, id="key", repeatable=True)
        await counting.until(lambda: counting.answered)
        await gone(task)
        second = LongPoll(store, Registry(), WorkerSettings())
        (elsewhere,) = await second.claim(order(id="key", repeatable=True), 0)
        counting.gate.set()
        (here,) = await poll.claim(order(id="key", repeatable=True), 0)
        await poll.close()
        await second.close()

        assert elsewhere.token == here.token
        assert (await store.get(id)).state is State.PROCESSING
        assert counting.released == []

    async def test_claim_with_a_key_that_is_not_repeated(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        """Its lease ends by itself, at no cost to the job."""
        counting.gate.clear()
        (id,) = await submit(store)
        task = waiting(poll, id="key", repeatable=True)
        await counting.until(lambda: counting.answered)
        await gone(task)
        counting.gate.set()
        await poll.close()
        survey = await store.survey(now=(await store.survey()).now_ms + 31_000)
        await store.reap_overdue(survey.overdue)
        job = await store.get(id)

        assert (job.state, job.errors, job.crashes) == (State.ENQUEUED, 0, 0)
        assert counting.released == []

    async def test_claim_without_a_key_is_none_that_could_be_repeated(self, poll: LongPoll, store: Store) -> None:
        """The store need not remember it for long."""
        await submit(store, 2)
        await poll.claim(order(id="once", lease=600.0), 0)
        await poll.claim(order(id="often", lease=600.0, repeatable=True), 0)
        found = await dump(store)

        assert found["session:http-once"].ttl <= 15_000
        assert found["session:http-key-often"].ttl > 600_000

    async def test_wake_up_that_comes_for_nobody_is_another_nodes(
        self, store: Store, counting: CountingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A line in which nobody waits any more still listens for a moment."""
        monkeypatch.setattr(long_poll, "LINGER", 30.0)
        async with two_nodes(counting) as (first, second):
            here = waiting(first)
            await counting.until(lambda: counting.listening == 1)
            there = waiting(second)
            await counting.until(lambda: counting.listening == 2)
            await gone(here)
            (id,) = await submit(store)
            async with asyncio.timeout(5):
                (lease,) = await there

        assert lease.job.id == id

    async def test_wake_up_that_comes_as_a_line_ends_is_another_nodes(
        self, store: Store, counting: CountingStore
    ) -> None:
        """Whoever stops listening may have been woken, and not know it."""
        listen = counting.wait_for_work
        taken = asyncio.Event()

        async def lose_the_answer(pool: Pool, timeout: float) -> bool:
            assert await listen(pool, timeout)
            taken.set()
            return await asyncio.Future()

        counting.wait_for_work = lose_the_answer  # type: ignore[method-assign]
        async with two_nodes(counting) as (first, second):
            here = waiting(first)
            await counting.until(lambda: counting.listening == 1)
            counting.wait_for_work = listen  # type: ignore[method-assign]
            there = waiting(second)
            await counting.until(lambda: counting.listening == 2)
            (id,) = await submit(store)
            await taken.wait()
            await gone(here)
            async with asyncio.timeout(5):
                (lease,) = await there

        assert lease.job.id == id

    async def test_client_that_hangs_up(self, api: Api) -> None:
        """Over a real connection: the jobs that come after are another's."""
        poll = api.server._app[LONG_POLL]
        client = asyncio.create_task(api.post(LEASES, {"types": ["a"], "wait": "30s"}))
        await until(lambda: poll.waiting)
        await gone(client)
        await until(lambda: not poll.waiting)
        id = await api.submit(type="a")
        other = await api.post(LEASES, {"types": ["a"]})

        assert [lease["job"]["job_id"] for lease in other.json["items"]] == [id]

    @pytest.mark.parametrize("round", range(3))
    async def test_clients_that_hang_up_at_any_moment(self, api: Api, store: Store, round: int) -> None:
        """Whatever they were doing, no job stays claimed for those who have gone."""
        answered: list[str] = []

        async def hurry(after: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(after):
                    answer = await api.post(LEASES, {"types": ["unserved"], "wait": "1s"})
                    answered.extend(lease["job"]["job_id"] for lease in answer.json["items"])

        clients = [asyncio.create_task(hurry(0.001 * n)) for n in range(60)]
        ids = [await api.submit() for _ in range(30)]
        await asyncio.gather(*clients)
        await api.server._app[LONG_POLL].close()
        states = Counter([(await store.get(id)).state for id in ids])
        # An answer that was on its way out when its client hung up is found out when its lease ends.
        held = states[State.PROCESSING] - len(answered)

        assert 0 <= held <= 3
        assert states[State.ENQUEUED] == 30 - len(answered) - held


class TestDraining:
    async def test_everybody_is_answered(self, poll: LongPoll, counting: CountingStore) -> None:
        tasks = [waiting(poll, *types) for types in (["a"], ["a"], ["b"])]
        await counting.until(lambda: counting.listening == 2)
        poll.drain()

        assert await asyncio.gather(*tasks) == [[], [], []]
        assert await poll.claim(order(), 30) == []

    async def test_what_is_under_way_is_still_given(
        self, poll: LongPoll, store: Store, counting: CountingStore
    ) -> None:
        counting.gate.clear()
        (id,) = await submit(store)
        task = waiting(poll)
        await counting.until(lambda: counting.asked)
        poll.drain()
        counting.gate.set()

        assert (await task)[0].job.id == id

    async def test_node_that_drains(self, api: Api) -> None:
        poll = api.server._app[LONG_POLL]
        clients = [asyncio.create_task(api.post(LEASES, {"types": ["a"], "wait": "30s"})) for _ in range(3)]
        await until(lambda: poll.waiting >= 3)
        api.server.drain()
        answers = await asyncio.gather(*clients)

        assert [(answer.status, answer.json) for answer in answers] == [(200, {"items": []})] * 3
        assert {answer.headers["Connection"] for answer in answers} == {"close"}


class TestTrouble:
    async def test_all_are_told(self, poll: LongPoll, counting: CountingStore) -> None:
        """Those for whom the store was not asked know that nothing was done."""
        counting.gate.clear()
        counting.trouble = OutcomeUnknown()
        tasks = [waiting(poll) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(result) for result in results] == [OutcomeUnknown, StoreUnavailable, StoreUnavailable]

    async def test_afterwards_it_goes_on(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        counting.trouble = StoreUnavailable()
        with pytest.raises(StoreUnavailable):
            await poll.claim(order(), 30)
        counting.trouble = None
        (id,) = await submit(store)

        assert (await poll.claim(order(), 0))[0].job.id == id

    async def test_unforeseen_error_leaves_nobody_waiting(self, poll: LongPoll, counting: CountingStore) -> None:
        counting.trouble = RuntimeError("unforeseen")
        results = await asyncio.gather(*[waiting(poll) for _ in range(3)], return_exceptions=True)

        assert [type(result) for result in results] == [RuntimeError] * 3

    async def test_wait_that_fails_is_made_again(
        self, poll: LongPoll, store: Store, counting: CountingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listen = counting.wait_for_work
        failures = itertools.count()

        async def fail_first(pool: Pool, timeout: float) -> bool:
            if not next(failures):
                raise StoreError
            return await listen(pool, timeout)

        counting.wait_for_work = fail_first  # type: ignore[method-assign]
        task = waiting(poll)
        await counting.until(lambda: counting.listening)
        (id,) = await submit(store)

        assert (await task)[0].job.id == id


class TestPools:
    async def test_hundred_pools(self, poll: LongPoll, store: Store, counting: CountingStore) -> None:
        """A thousand who wait for a hundred different sets of types: each wakes for its own."""
        tasks = {n: [waiting(poll, f"t{n}", wait=20) for _ in range(10)] for n in range(100)}
        await counting.until(lambda: counting.listening == 100)
        ids = [await submit(store, 10, f"t{n}") for n in range(100)]
        won = [[(await task)[0].job.id for task in tasks[n]] for n in range(100)]

        assert [sorted(one) for one in won] == [sorted(one) for one in ids]

    async def test_one_too_many(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(long_poll, "MAX_POOLS", 2)
        poll = api.server._app[LONG_POLL]
        clients = [asyncio.create_task(api.post(LEASES, {"types": [type], "wait": "30s"})) for type in ("a", "b", "b")]
        await until(lambda: poll.waiting >= 3)
        refused = await api.post(LEASES, {"types": ["c"], "wait": "30s"})
        at_once = await api.post(LEASES, {"types": ["c"]})
        api.server.drain()
        await asyncio.gather(*clients)

        assert (refused.status, refused.problem) == (429, "too-many-pools")
        assert int(refused.headers["Retry-After"]) > 0
        assert at_once.status == 200


async def test_waiting_client_is_woken_within_milliseconds(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """From a submit to the answer of the claim, both over HTTP; the median is printed."""
    poll = api.server._app[LONG_POLL]
    times: list[float] = []
    for _ in range(50):
        client = asyncio.create_task(api.post(LEASES, {"types": ["unserved"], "wait": "30s"}))
        await until(lambda: poll.waiting)
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        await api.submit()
        answer = await client
        times.append(time.perf_counter() - began)
        assert len(answer.json["items"]) == 1
    median = statistics.median(times)
    with capsys.disabled():
        print(f"\nSubmit to claim, both over HTTP: p50 {median * 1000:.1f} ms, max {max(times) * 1000:.1f} ms")  # noqa: T201

    # Far below the second after which it would have asked anyway, also where other tests take the processors.
    assert median < 0.1


async def test_thousand_clients_wait(serve: Callable[..., Awaitable[Api]]) -> None:
    """Over real connections; each gets its job."""
    api = await serve(max_connections_per_address=4096)
    poll = api.server._app[LONG_POLL]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def wait() -> list[Any]:
            body = {"types": ["unserved"], "wait": "50s"}
            async with session.post(api.server.url + LEASES, json=body) as response:
                assert response.status == 200
                return (await response.json())["items"]

        clients = [asyncio.create_task(wait()) for _ in range(1000)]
        await until(lambda: poll.waiting >= 1000)
        ids = {one.id for one in await api.store.submit_many([NewJob(type="unserved") for _ in range(1000)])}
        won = [lease["job"]["job_id"] for items in await asyncio.gather(*clients) for lease in items]

    assert len(won) == 1000
    assert set(won) == ids
