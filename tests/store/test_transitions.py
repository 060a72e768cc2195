"""Every verb on a job in every state: what becomes of the job, and what the caller is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gopher_node.errors import InvalidState, JobNotFound
from gopher_node.job import Job, Priority, State
from gopher_node.store import JobFilter, Store
from tests.store.conftest import OpenStore
from tests.store.consistency import find_problems
from tests.store.keyspace import differences, dump
from tests.store.lives import FAR, POOL, STATES, TYPE, Life, relive, state_in

ERROR = b'{"code":"broken","message":"it broke"}'

Act = Callable[[Store, Life], Awaitable[Any]]


async def far(store: Store) -> int:
    """A time at which everything is due, overdue and over."""
    return (await store.survey()).now_ms + FAR


async def claim(store: Store, life: Life) -> int:
    session = await store.open_session("third", 15.0)
    return len((await store.claim(session, POOL, 10)).leases)


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
RUNNING = ("processing", "cancelling")
ENDED = ("completed", "failed", "cancelled")

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
    "delete": Row(
        lambda store, life: store.delete(life.id),
        otherwise=InvalidState,
        changes={"absent": ("absent", JobNotFound), **dict.fromkeys((*WAITING, *ENDED), ("absent", None))},
    ),
    "purge": Row(
        lambda store, life: store.purge(TYPE),
        otherwise=0,
        changes={"scheduled": ("absent", 1), "enqueued": ("absent", 1)},
    ),
    "purge of the level": Row(
        lambda store, life: store.purge(TYPE, Priority.NORMAL),
        otherwise=0,
        changes={"scheduled": ("absent", 1), "enqueued": ("absent", 1)},
    ),
    "purge of another level": Row(lambda store, life: store.purge(TYPE, Priority.HIGH), otherwise=0),
    "purge of another type": Row(lambda store, life: store.purge("other"), otherwise=0),
    "wait": Row(
        lambda store, life: store.wait(life.id, 0.2), otherwise=Job, changes={"absent": ("absent", JobNotFound)}
    ),
}

TIMEKEEPING = {
    "claim": Row(claim, otherwise=0, changes={"enqueued": ("processing", 1)}),
    "promote": Row(promote, otherwise=0, changes={"scheduled": ("enqueued", 1)}),
    "reap the holder's session": Row(
        lambda store, life: store.reap_session(life.session.id, 0),
        otherwise=0,
        changes={"processing": ("enqueued", 1), "cancelling": ("cancelled", 1)},
    ),
    "reap the overdue": Row(
        reap_overdue,
        otherwise=0,
        changes={"processing": ("enqueued", 1), "cancelling": ("cancelled", 1)},
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
        changes={"processing": ("scheduled", State.SCHEDULED), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "retry now": Row(
        lambda store, life: store.retry(life.lease, ERROR, 0.0),
        otherwise=None,
        changes={"processing": ("enqueued", State.ENQUEUED), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "fail": Row(
        lambda store, life: store.fail(life.lease, ERROR),
        otherwise=None,
        changes=dict.fromkeys(RUNNING, ("failed", State.FAILED)),
    ),
    "release": Row(
        lambda store, life: store.release(life.lease),
        otherwise=None,
        changes={"processing": ("enqueued", State.ENQUEUED), "cancelling": ("cancelled", State.CANCELLED)},
    ),
    "cancelled": Row(
        lambda store, life: store.cancelled(life.lease, ERROR),
        otherwise=None,
        changes=dict.fromkeys(RUNNING, ("cancelled", State.CANCELLED)),
    ),
    "progress": Row(
        lambda store, life: store.progress(life.lease, b"0.5"),
        otherwise=False,
        changes={"processing": ("processing", True)},
    ),
}


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
    settled = {state: (state, row.otherwise if verb == "progress" else State(state)) for state in ("scheduled", *ENDED)}

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
        word = {"absent": None, "cancelling": State.PROCESSING}.get(state) or (state != "absent" and State(state))
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
