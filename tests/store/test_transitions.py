"""Every verb on a job in every state: what becomes of the job, and what the caller is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gopher_node.errors import InvalidState, JobNotFound
from gopher_node.job import Job, Priority, State
from gopher_node.store import Beat, JobFilter, Store
from gopher_node.store.operating import Verb
from tests.store.conftest import OpenStore
from tests.store.consistency import find_problems
from tests.store.keyspace import differences, dump
from tests.store.lives import FAR, POOL, STATES, TYPE, Life, relive, state_in

ERROR = b'{"code":"broken","message":"it broke"}'

LATER = 1_999_999_999_000
"""A time at which a heartbeat may come, the same whenever it is told."""

Act = Callable[[Store, Life], Awaitable[Any]]


async def far(store: Store) -> int:
    """A time at which everything is due, overdue and over."""
    return (await store.survey()).now_ms + FAR


async def claim(store: Store, life: Life) -> int:
    session = await store.open_session("third", 15.0)
    return len((await store.claim(session, POOL, 10)).leases)


async def claim_over_http(store: Store, life: Life) -> int:
    return len((await store.leases.claim(POOL, 10, waits=False)).leases)


async def claim_the_job(store: Store, life: Life) -> int:
    return (await store.leases.claim_job(life.id)).job.attempt


async def heartbeat(store: Store, life: Life) -> bool | None:
    (beaten,) = await store.leases.heartbeat([Beat(life.lease, progress=b"0.5")], now=LATER)
    return None if beaten is None else beaten.cancel_requested


async def promote(store: Store, life: Life) -> int:
    return (await store.promote(now=await far(store))).count


async def reap_overdue(store: Store, life: Life) -> int:
    survey = await store.survey(now=await far(store))
    return await store.reap_overdue(survey.overdue)


async def prune(store: Store, life: Life) -> int:
    # The pool is forgotten too, and counts as one.
    return await store.prune(now=await far(store)) - 1


@dataclass(frozen=True)
class Row:
    """
    What a verb does to a job in each state: (state afterwards, answer), where an answer may be an exception.

    States that are not named answer `otherwise` and stay as they are.
    """

    act: Act
    otherwise: Any
    changes: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def expected(self, state: str) -> tuple[str, Any]:
        return self.changes.get(state, (state, self.otherwise))


WAITING = ("scheduled", "enqueued", "blocked")
RUNNING = ("processing", "leased", "cancelling")
HELD = ("processing", "leased")
ENDED = ("completed", "failed", "cancelled")
QUEUED = ("scheduled", "enqueued")
EDITED = {"absent": ("absent", JobNotFound), "blocked": ("blocked", Job)}


def many(
    verb: Verb,
    found_in: tuple[str, ...],
    becomes: str,
    others: dict[str, tuple[str, Any]] | None = None,
    *,
    states: tuple[State, ...] = (),
) -> Row:
    """A verb over all jobs of the type, and the states in which it changes them."""
    filter = JobFilter(type=TYPE, states=states)
    changes = {**dict.fromkeys(found_in, (becomes, 1)), **(others or {})}
    return Row(lambda store, life: act(store, verb, filter), otherwise=0, changes=changes)


async def act(store: Store, verb: Verb, filter: JobFilter) -> int:
    """To the last step; how many it changed."""
    count, cursor = 0, None
    while True:
        acted = await store.act(verb, filter, cursor)
        count, cursor = count + acted.count, acted.next_cursor
        if cursor is None:
            return count


OPERATING = {
    "submit the same id": Row(
        lambda store, life: submit_again(store, life),
        otherwise=False,
        changes={"absent": ("enqueued", True)},
    ),
    "get": Row(lambda store, life: store.get(life.id), otherwise=Job, changes={"absent": ("absent", JobNotFound)}),
    "cancel": Row(
        lambda store, life: store.cancel(life.id),
        otherwise=InvalidState,
        changes={
            "absent": ("absent", JobNotFound),
            **dict.fromkeys(WAITING, ("cancelled", Job)),
            **dict.fromkeys(RUNNING, ("cancelling", Job)),
            "cancelled": ("cancelled", Job),
        },
    ),
    "requeue": Row(
        lambda store, life: store.requeue(life.id),
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), **dict.fromkeys(ENDED, ("enqueued", Job))},
    ),
    "requeue_failed": Row(lambda store, life: store.requeue_failed(), otherwise=0, changes={"failed": ("enqueued", 1)}),
    "requeue_failed of the type": Row(
        lambda store, life: store.requeue_failed(TYPE), otherwise=0, changes={"failed": ("enqueued", 1)}
    ),
    "requeue_failed of another type": Row(lambda store, life: store.requeue_failed("other"), otherwise=0),
    "edit the priority": Row(
        lambda store, life: store.edit(life.id, priority=Priority.HIGH),
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), **{state: (state, Job) for state in WAITING}},
    ),
    "edit, due later": Row(
        lambda store, life: store.edit(life.id, delay_ms=60_000),
        otherwise=InvalidState,
        changes={**EDITED, **dict.fromkeys(QUEUED, ("scheduled", Job))},
    ),
    "edit, due at once, of the lowest priority": Row(
        lambda store, life: store.edit(life.id, due_ms=1, priority=Priority.LOW),
        otherwise=InvalidState,
        changes={**EDITED, **dict.fromkeys(QUEUED, ("enqueued", Job))},
    ),
    "run now": Row(
        lambda store, life: store.run_now(life.id),
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), **dict.fromkeys(QUEUED, ("enqueued", Job))},
    ),
    "cancel many": many("cancel", WAITING, "cancelled", dict.fromkeys(HELD, ("cancelling", 1))),
    "retry many": many("retry", ("failed",), "enqueued"),
    "retry many of the ended": many("retry", ENDED, "enqueued", states=tuple(State(state) for state in ENDED)),
    "delete many": many("delete", (*WAITING, *ENDED), "absent"),
    "run many now": many("run_now", ("scheduled",), "enqueued"),
    "cancel many of another type": Row(lambda store, life: act(store, "cancel", JobFilter(type="other")), otherwise=0),
    "delete many of a state": many("delete", ("completed",), "absent", states=(State.COMPLETED, State.PROCESSING)),
    "delete": Row(
        lambda store, life: store.delete(life.id),
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), **dict.fromkeys((*WAITING, *ENDED), ("absent", None))},
    ),
    "purge": Row(
        lambda store, life: store.purge(TYPE),
        otherwise=0,
        changes=dict.fromkeys(WAITING, ("absent", 1)),
    ),
    "purge of the level": Row(
        lambda store, life: store.purge(TYPE, Priority.NORMAL),
        otherwise=0,
        changes=dict.fromkeys(WAITING, ("absent", 1)),
    ),
    "purge of another level": Row(lambda store, life: store.purge(TYPE, Priority.HIGH), otherwise=0),
    "purge of another type": Row(lambda store, life: store.purge("other"), otherwise=0),
    "wait": Row(
        lambda store, life: store.wait(life.id, 0.2), otherwise=Job, changes={"absent": ("absent", JobNotFound)}
    ),
}

TIMEKEEPING = {
    "claim": Row(claim, otherwise=0, changes={"enqueued": ("processing", 1)}),
    "claim over HTTP": Row(claim_over_http, otherwise=0, changes={"enqueued": ("leased", 1)}),
    "claim the job": Row(
        claim_the_job,
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), "enqueued": ("leased", 2)},
    ),
    "promote": Row(promote, otherwise=0, changes={"scheduled": ("enqueued", 1)}),
    "reap the holder's session": Row(
        lambda store, life: store.reap_session(life.session.id, 0),
        otherwise=0,
        changes={"processing": ("enqueued", 1), "cancelling": ("cancelled", 1)},
    ),
    "reap the overdue": Row(
        reap_overdue,
        otherwise=0,
        changes={**dict.fromkeys(HELD, ("enqueued", 1)), "cancelling": ("cancelled", 1)},
    ),
    "close the holder's session": Row(
        lambda store, life: store.close_session(life.session),
        otherwise=None,
        changes={"processing": ("enqueued", None), "cancelling": ("cancelled", None)},
    ),
    "prune": Row(prune, otherwise=0, changes={"completed": ("absent", 1), "cancelled": ("absent", 1)}),
}

SETTLING: dict[str, Row] = {
    "complete": Row(
        lambda store, life: store.complete(life.lease, b"1"),
        otherwise=None,
        changes=dict.fromkeys(RUNNING, ("completed", State.COMPLETED)),
    ),
    "retry later": Row(
        lambda store, life: store.retry(life.lease, ERROR, 60.0),
        otherwise=None,
        changes={**dict.fromkeys(HELD, ("scheduled", State.SCHEDULED)), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "retry now": Row(
        lambda store, life: store.retry(life.lease, ERROR, 0.0),
        otherwise=None,
        changes={**dict.fromkeys(HELD, ("enqueued", State.ENQUEUED)), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "fail": Row(
        lambda store, life: store.fail(life.lease, ERROR),
        otherwise=None,
        changes=dict.fromkeys(RUNNING, ("failed", State.FAILED)),
    ),
    "crash alone": Row(
        lambda store, life: store.crash(life.lease, ERROR),
        otherwise=None,
        changes={**dict.fromkeys(HELD, ("enqueued", State.ENQUEUED)), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "release": Row(
        lambda store, life: store.release(life.lease),
        otherwise=None,
        changes={**dict.fromkeys(HELD, ("enqueued", State.ENQUEUED)), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "cancelled": Row(
        lambda store, life: store.cancelled(life.lease, ERROR),
        otherwise=None,
        changes=dict.fromkeys(RUNNING, ("cancelled", State.CANCELLED)),
    ),
    "progress": Row(
        lambda store, life: store.progress(life.lease, b"0.5"),
        otherwise=False,
        changes={state: (state, True) for state in HELD},
    ),
    "heartbeat": Row(heartbeat, otherwise=None, changes={state: (state, state == "cancelling") for state in RUNNING}),
    "count the error": Row(
        lambda store, life: store.leases.count_error(life.lease.token),
        otherwise=None,
        changes={state: (state, 1) for state in RUNNING},
    ),
}

GOING_ON = ("progress", "heartbeat", "count the error")
"""What is said with a lease without ending it."""


async def submit_again(store: Store, life: Life) -> bool:
    submitted = await store.submit(life.job)
    assert submitted.state == (await store.get(life.id)).state
    return submitted.created


async def answer_of(act: Act, store: Store, life: Life) -> Any:
    try:
        answer = await act(store, life)
    except (JobNotFound, InvalidState) as error:
        return type(error)
    if isinstance(answer, Job):
        assert answer == await store.get(life.id)
        return Job
    return answer


def settle_late(act: Act) -> Act:
    """The same, by whoever held the job before it was reaped."""
    return lambda store, life: act(store, Life(life.job, life.late, life.late, life.session))


async def try_in_every_state(open_store: OpenStore, namespace: str, act: Act) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state afterwards, answer) by state, each in a namespace of its own, and what was changed there."""
    outcomes: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for state in STATES:
        store = await open_store(namespace=f"{namespace}-{state}")
        life, before = await relive(store, state)
        answer = await answer_of(act, store, life)
        after = await dump(store)
        outcomes[state] = (state_in(after, life), answer)
        changes[state] = [line for line in differences(before, after) if not line.startswith("totals")]
        assert find_problems(after) == []
    return outcomes, changes


@pytest.mark.parametrize("verb", [*OPERATING, *TIMEKEEPING])
async def test_every_verb_on_every_state(open_store: OpenStore, namespace: str, verb: str) -> None:
    """An operator's or the clock's verb changes the states it is for, and answers for all others that it cannot."""
    row = {**OPERATING, **TIMEKEEPING}[verb]

    outcomes, _ = await try_in_every_state(open_store, namespace, row.act)

    assert outcomes == {state: row.expected(state) for state in STATES}


@pytest.mark.parametrize("verb", SETTLING)
async def test_a_lease_settles_its_job_once(open_store: OpenStore, namespace: str, verb: str) -> None:
    """Any outcome ends a lease that lives. One that was settled before changes nothing, and is told how it ended."""
    row = SETTLING[verb]
    settled = {state: (state, row.otherwise if verb in GOING_ON else State(state)) for state in ("scheduled", *ENDED)}

    outcomes, changes = await try_in_every_state(open_store, namespace, row.act)

    assert outcomes == {state: settled.get(state, row.expected(state)) for state in STATES}
    assert [state for state in STATES if changes[state] and state not in RUNNING] == []


@pytest.mark.parametrize("verb", SETTLING)
async def test_a_reaped_lease_settles_nothing(open_store: OpenStore, namespace: str, verb: str) -> None:
    """Whoever lost its job to the reaper is told so, whatever became of the job since."""
    row = SETTLING[verb]

    outcomes, changes = await try_in_every_state(open_store, namespace, settle_late(row.act))

    assert outcomes == {state: (state, row.otherwise) for state in STATES}
    assert [state for state in STATES if changes[state]] == []


async def test_lists_and_counts_each_job_under_its_state(open_store: OpenStore, namespace: str) -> None:
    """A job is found under the state that it is in, and counted there, and nowhere else."""

    async def look(store: Store, life: Life) -> Any:
        found = {
            wanted
            for wanted in State
            for filter in (JobFilter(states=(wanted,)), JobFilter(states=(wanted,), type=TYPE))
            if (await store.list(filter)).items
        }
        return found, (await store.stats()).counts

    outcomes, changes = await try_in_every_state(open_store, namespace, look)

    for state, (_, (found, counts)) in outcomes.items():
        running = {"absent": None, **dict.fromkeys(RUNNING, State.PROCESSING)}
        word = running.get(state) or (state != "absent" and State(state))
        assert found == ({word} if word else set())
        assert counts == ({(word, Priority.NORMAL, TYPE): 1} if word else {})
    assert [state for state in STATES if changes[state]] == []


async def test_renewing_moves_the_pulse_alone(open_store: OpenStore, namespace: str) -> None:
    """A session is renewed whatever its jobs are in; its pulse tells how often."""

    async def renew(store: Store, life: Life) -> Any:
        await store.renew(life.session)
        pulse = (await store.survey()).sessions[life.session.id]
        return pulse.renewals, pulse.lease, pulse.node

    outcomes, changes = await try_in_every_state(open_store, namespace, renew)

    assert outcomes == {state: (state, (1, 15.0, "alive")) for state in STATES}
    assert all(len(lines) == 1 and lines[0].startswith("sessions") for lines in changes.values())


async def test_cancellations_are_of_running_jobs(open_store: OpenStore, namespace: str) -> None:
    """A holder that begins to listen hears of what it should cancel, and only of that."""

    async def listen(store: Store, life: Life) -> Any:
        wanted = await store._run("cancellations", life.session.id)
        return [id.decode() for id in wanted] == [life.id]

    outcomes, _ = await try_in_every_state(open_store, namespace, listen)

    assert outcomes == {state: (state, state == "cancelling") for state in STATES}
