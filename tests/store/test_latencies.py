"""How long jobs took: told by each node as often as it likes, merged over nodes and minutes, kept as quantiles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gopher_node.api.answers.latencies import RecentLatencies
from gopher_node.errors import StoreUnavailable
from gopher_node.reporting import Reporter
from gopher_node.scheduler import Scheduler
from gopher_node.store import Store
from gopher_node.telemetry import Events
from gopher_node.telemetry.measures import Types
from gopher_node.telemetry.took import Shares, Took, TookByType, merged
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.test_told_twice import Echo

NOW = 1_700_000_040_000  # a whole minute
MINUTE = 60_000


class Measuring:
    """A node that measures, by a clock that the test sets (epoch ms), which is the store's too."""

    def __init__(self, id: str, now: Callable[[], int]) -> None:
        self.id = id
        self.types = Types()
        self._now = now
        self.shares = Shares(self.types, lambda: (now() - NOW) / 1000 + 5.0)
        self.shares.set_clock(now())

    def run(self, type: str, *seconds: float, wait: float | None = None) -> None:
        self.shares.look()
        for each in seconds:
            self.types[type].run.observe(each)
        if wait is not None:
            self.types[type].wait.observe(wait)

    async def report(self, store: Store) -> int:
        """Returns of how many minutes it had something to tell."""
        due = self.shares.due()
        if due:
            await store.latencies.report(self.id, due, now=self._now())
            self.shares.told(due)
        return len(due)


class Clock:
    ms = NOW

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def taken(store: Store, clock: Clock, type: str) -> tuple[int, int, float]:
    """How many runs and waits of the type the last minutes had, and how long the runs took in all."""
    took = (await RecentLatencies().read(store, now=clock.ms)).types.get(type, Took())
    return took.run.count, took.wait.count, round(took.run.sum, 6)


async def test_two_nodes_and_several_minutes(store: Store, clock: Clock) -> None:
    """What all nodes measured in ten whole minutes and the present one is one; what is older has left it."""
    a, b = Measuring("a", clock), Measuring("b", clock)
    a.run("mail", 1.0, 1.0, wait=0.5)
    b.run("mail", 3.0)
    b.run("math", 0.1)
    assert [await node.report(store) for node in (a, b)] == [1, 1]
    clock.ms += 10 * MINUTE + 59_999
    a.run("mail", 7.0)
    assert await a.report(store) == 1
    assert (await taken(store, clock, "mail"), await taken(store, clock, "math")) == ((4, 1, 12.0), (1, 0, 0.1))

    clock.ms += 1

    assert (await taken(store, clock, "mail"), await taken(store, clock, "math")) == ((1, 0, 7.0), (0, 0, 0.0))


async def test_a_share_grows_with_each_report(store: Store, clock: Clock) -> None:
    """It is told anew as a whole, told again it changes nothing, and a late copy of an earlier one is refused."""
    node = Measuring("a", clock)
    node.run("mail", 1.0)
    early = node.shares.due()
    await node.report(store)
    clock.ms += 10_000
    node.run("mail", 2.0)
    echo = Echo(store)
    await node.report(store)
    before = await dump(store)

    await store.latencies.report("a", early, now=clock.ms)

    assert echo.faults == []
    assert differences(before, await dump(store)) == []
    assert await taken(store, clock, "mail") == (2, 0, 3.0)


async def test_an_idle_node_has_nothing_to_tell(store: Store, clock: Clock) -> None:
    """Neither in the minute in which its last job was told, nor in any that follows."""
    node = Measuring("a", clock)
    assert await node.report(store) == 0
    node.run("mail", 1.0)
    assert [await node.report(store), await node.report(store)] == [1, 0]
    for _ in range(3):
        clock.ms += MINUTE
        assert await node.report(store) == 0


async def test_minutes_in_which_the_store_was_away(store: Store, clock: Clock) -> None:
    """They are told when it is back, each as what it was; what nobody would ask for any more is not."""
    node = Measuring("a", clock)
    for _ in range(20):
        node.run("mail", 1.0)
        clock.ms += MINUTE

    assert await node.report(store) == 15

    assert await taken(store, clock, "mail") == (10, 0, 10.0)
    assert await node.report(store) == 0


async def test_a_restart_adds_to_what_was(store: Store, clock: Clock) -> None:
    """A process that was started anew is another node: what the one before has told of the minute stays."""
    for id in ("host-1-aa", "host-2-bb"):
        node = Measuring(id, clock)
        node.run("mail", 1.0)
        await node.report(store)

    assert await taken(store, clock, "mail") == (2, 0, 2.0)


async def test_what_is_kept_of_a_minute_is_bounded(store: Store, clock: Clock) -> None:
    """A hundred types of each node and the others as one; it goes by itself; no minute far from now is taken at all."""
    node = Measuring("a", clock)
    for n in range(130):
        node.run(f"t{n}", 1.0)
    await node.report(store)
    for minute in (NOW - 20 * MINUTE, NOW + MINUTE):
        await store.latencies.report("b", {minute: (1, b'{"x":[{},0,{},0]}')}, now=NOW)

    found = await dump(store)
    assert [name for name in found if name.startswith("latency:")] == [f"latency:{NOW}"]
    assert 0 < found[f"latency:{NOW}"].ttl <= 20 * MINUTE
    types = (await RecentLatencies().read(store, now=clock.ms)).types
    assert (len(types), types["other"].run.count, types.all().run.count) == (101, 30, 130)


async def test_minutes_that_are_over_are_read_once(store: Store, clock: Clock) -> None:
    """Whoever asks again is answered as before; of a minute that all nodes have told, from memory."""
    node, recent = Measuring("a", clock), RecentLatencies(lambda: clock.ms / 1000)
    for _ in range(5):
        node.run("mail", 1.0)
        await node.report(store)
        clock.ms += MINUTE
    first = await recent.read(store, now=clock.ms)
    assert await recent.read(store, now=clock.ms) is first
    clock.ms += 2000
    await command(store, "DEL", *(f"{prefix(store)}latency:{NOW + n * MINUTE}" for n in range(4)))

    again = await recent.read(store, now=clock.ms)

    assert (first.types["mail"].run.count, again.types["mail"].run.count) == (5, 5)
    clock.ms += 6 * MINUTE
    later = await recent.read(store, now=clock.ms)
    assert later.types["mail"].run.count == 4  # the first minute has left the window
    clock.ms += 3000
    back = await recent.read(store, now=clock.ms - 4 * MINUTE)
    assert back.types["mail"].run.count == 1  # the clock was set back, so all is asked for anew


async def test_history_has_quantiles(store: Store, clock: Clock) -> None:
    """Of the minute before last, by whichever node ticks first; of all jobs, or of a type, in seconds."""
    a, b = Measuring("a", clock), Measuring("b", clock)
    a.run("mail", *[0.01] * 90, wait=2.0)
    b.run("mail", *[1.0] * 8, 20.0, 20.0)
    b.run("math", 0.0001)
    for node in (a, b):
        await node.report(store)
    ticking = [Scheduler(store, Events()) for _ in range(3)]
    for minute in (1, 2):
        for scheduler in ticking:
            await scheduler.tick(now=NOW + minute * MINUTE + 1000)

    of_all, of_mail, of_none = [
        await store.history.read(60, type, now=NOW + 2 * MINUTE + 2000) for type in (None, "mail", "at")
    ]

    assert [minute.at_ms - NOW for minute in of_mail] == [0, MINUTE]
    assert of_mail[0].run == [0.00933, 0.944, 17.5]
    assert of_mail[0].wait == pytest.approx([1.75, 1.975, 1.995], rel=0.01)
    assert of_all[0].run == [0.00932, 0.943, 17.5]
    assert [(minute.run, minute.wait) for minute in (of_mail[1], of_none[0])] == [(None, None)] * 2


async def test_a_minute_is_summed_up_once(store: Store, clock: Clock) -> None:
    """Also if two nodes do it at once, or a share comes late; one that a dead node has left is made up for."""
    node = Measuring("a", clock)
    node.run("mail", 1.0)
    await node.report(store)
    assert await store.latencies.due(now=NOW + MINUTE + 59_999) is None
    assert await store.history.tick(now=NOW + 2 * MINUTE)  # and dies
    await Scheduler(store, Events()).tick(now=NOW + 3 * MINUTE)
    before = await dump(store)
    assert len(before["latency-history"].value) == 1
    echo = Echo(store)

    await store.latencies.summarise(NOW, merged([b'{"mail":[{"0":9},0,{},0]}']).summary(), now=NOW + 3 * MINUTE)

    assert echo.faults == []
    assert differences(before, await dump(store)) == []
    assert await store.latencies.due(now=NOW + 3 * MINUTE) is None


async def test_two_days_of_quantiles_are_kept(store: Store) -> None:
    for minute in range(0, 3000, 100):
        await store.latencies.summarise(NOW + minute * MINUTE, {"": [1] * 6}, now=NOW + (minute + 2) * MINUTE)

    kept = (await dump(store))["latency-history"].value.values()

    assert [round(at - NOW) // MINUTE for at in sorted(kept)] == list(range(100, 3000, 100))


def test_a_summary_is_bounded() -> None:
    """The hundred types with most jobs, by name; the others as one, and all of them."""
    types = TookByType()
    for n in range(150):
        types.add(b'{"t%03d":[{"3":%d},0.1,{},0]}' % (n, 1 + n))

    told = types.summary()

    assert len(told) == 102
    assert told.keys() >= {"", "other", "t149", "t050"}
    assert "t049" not in told


async def test_a_reporter_tells_it_with_its_report(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same time; what an outage kept from the store goes with a later one, and the rest when the node stops."""
    events = Events()
    reporter = Reporter(store, events, {"id": "n1"}, None)
    events.measures.types["mail"].run.observe(1.0)
    tell = store.latencies.report

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(store.latencies, "report", fail)
    await reporter._report(None)
    monkeypatch.setattr(store.latencies, "report", tell)
    await reporter._report(None)

    assert (await RecentLatencies().read(store)).types["mail"].run.count == 1
