"""HTTP leases: what a worker holds that is no node of ours, each a proof of life of its own."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gopher_node.errors import InvalidState, JobNotFound, TooManyPools
from gopher_node.job import DEFAULT_WEIGHTS, Lease, Priority, State, Token
from gopher_node.store import replies
from gopher_node.store.scripts import Run
from gopher_node.store.values import Beat, Beaten, Claimed, Pool

MOST_POOLS = 64  # in which a type may be when a lease call opens one more
MAX_BEATS = 200
REMEMBERED = 15.0
"""Seconds for which a claim is known again that nobody repeats but the store, and at least thrice its patience."""


def claim_words(
    pool: Pool,
    limit: int,
    *,
    timeout: float,
    grace: float,
    limits: Mapping[str, int] | None = None,
    timeouts: Mapping[str, float] | None = None,
    weights: Mapping[Priority, int] = DEFAULT_WEIGHTS,
    lease: tuple[Any, Any, Any, Any] = ("", "", "", ""),
    suspects: int | None = None,
) -> list[Any]:
    """What claim.lua is told, from the pool on. `lease` is of HTTP claims: ms, worker, if it waits, memory."""
    named = sorted({*(limits or ()), *(timeouts or ())})
    words: list[Any] = [pool.key, limit, secrets.token_hex(8 * limit)]
    words += [weights[level] for level in sorted(Priority, reverse=True)]
    words += [round((timeout + grace) * 1000), round(grace * 1000), *lease]
    words += ["" if suspects is None else suspects, len(named)]
    for type in named:
        own = (timeouts or {}).get(type)
        words += [type, (limits or {}).get(type, ""), "" if own is None else round((own + grace) * 1000)]
    return words


class Leases:
    """
    Leases that no node's session keeps alive: each ends by itself unless its holder's heartbeats renew it.

    None lasts beyond its hard deadline. One that ends before its first heartbeat counts as released, unless that
    happens too often in a row; after one, as a crash. A job's `node` is "http:" and the worker's name, or "http".
    They are settled by the store's own verbs.
    """

    def __init__(self, run: Run, patience: float) -> None:
        """For `patience` seconds the store begins to tell a script again; a try takes up to twice as long."""
        self._run = run
        self._memory = _ms(max(REMEMBERED, 3 * patience))

    async def claim(
        self,
        pool: Pool,
        limit: int,
        *,
        lease: float = 30.0,
        worker: str = "",
        timeout: float = 300.0,
        grace: float = 30.0,
        timeouts: Mapping[str, float] | None = None,
        weights: Mapping[Priority, int] = DEFAULT_WEIGHTS,
        claim_id: str | None = None,
        waiter: str | None = None,
        waits: bool = True,
        now: int | None = None,
    ) -> Claimed:
        """
        Take up to `limit` jobs of the pool's types, each under a lease of `lease` seconds. Raises TooManyPools.

        A `claim_id` that has got jobs gets those again that it still holds, and no others as long as they run. While it
        has got none it may claim again, to go on waiting. Whoever will not repeat a claim gives none; to go on waiting
        it then needs a `waiter`, an id that is not used again once it got jobs. With `waits` a claim registers, when
        there is nothing, for a wake-up of `Store.wait_for_work`, and must ask again within 15 seconds; without, it
        leaves no registration behind.
        """
        holder = (_ms(lease), _name(worker), "1" if waits else "", self._memory)
        words = claim_words(pool, limit, timeout=timeout, grace=grace, timeouts=timeouts, weights=weights, lease=holder)
        arguments = [_session(claim_id, waiter), uuid.uuid4().hex, *words]
        answer = await self._run("claim", *arguments, now=now)
        if answer[0] == b"no-pool":
            if not await self._run("open_pool", pool.key, MOST_POOLS, *pool.types, now=now):
                raise TooManyPools
            answer = await self._run("claim", *arguments, now=now)
        return Claimed([replies.lease(entry) for entry in answer[2:]], answer[1], answer[0] == b"spent")

    async def claim_job(
        self,
        id: str,
        *,
        lease: float = 30.0,
        worker: str = "",
        timeout: float = 300.0,
        grace: float = 30.0,
        claim_id: str | None = None,
        now: int | None = None,
    ) -> Lease:
        """
        Take this one enqueued job; until it is settled, whoever knows its id may have its token.

        `timeout` is of a job that has none of its own. A claim id that holds the job gets the same lease again; one
        that held it does not get it a second time. Raises JobNotFound, or InvalidState unless it is enqueued.
        """
        words = (_name(worker), _ms(lease), round((timeout + grace) * 1000), round(grace * 1000))
        answer = await self._run("claim_job", id, _session(claim_id), secrets.token_hex(8), *words, now=now)
        if answer is None:
            raise JobNotFound(f"There is no job {id}.")
        if isinstance(answer, bytes):
            state = answer.decode()
            why = (
                " again: this claim has had it, and does not get it a second time"
                if state == State.ENQUEUED
                else "; only a job that is enqueued can be claimed"
            )
            raise InvalidState(state, f"Job {id} is {state}{why}.")
        return replies.lease_of_job(answer)

    async def open_token(self, id: str) -> Token | None:
        """The token of a running job that `claim_job` took and nobody has settled yet."""
        answer = await self._run("open_token", id)
        return None if answer is None else Token(id, int(answer[0]), answer[1].decode())

    async def heartbeat(
        self, beats: Sequence[Beat], *, cancel_grace: float = 30.0, now: int | None = None
    ) -> list[Beaten | None]:
        """
        Renew up to 200 leases: each lasts its length again from now on, up to its hard deadline. None: it is stale.

        A run that is told here that its job is to be cancelled has `cancel_grace` seconds, from the first time, to end.

        Progress is stored even where memory is short, for the lease must not end by it: the caller bounds its size.
        """
        if len(beats) > MAX_BEATS:
            raise ValueError(f"At most {MAX_BEATS} leases can be renewed in one step, not {len(beats)}.")
        if not beats:
            return []
        words: list[Any] = []
        for beat in beats:
            length = "" if beat.lease is None else _ms(beat.lease)
            words += [*replies.token_words(beat.token), length, beat.progress or b""]
        answers = await self._run("renew_leases", len(beats), self._memory, _ms(cancel_grace), *words, now=now)
        return [None if answer is None else Beaten(answer[0], bool(answer[1])) for answer in answers]

    async def pass_on(self, pool: Pool) -> None:
        """Give back a wake-up of `Store.wait_for_work` that was had, or may have been, and is of no use any more."""
        await self._run("pass_on", pool.key)

    async def count_error(self, token: Lease | Token) -> int | None:
        """
        Count an error of a run that goes on, and return the job's number of errors. None: the lease is stale.

        Once for each run: what it is told again, and its `retry` or `fail`, counts no second one.
        """
        return await self._run("count_error", *replies.token_words(token))


def _session(claim_id: str | None, waiter: str | None = None) -> str:
    # So that no caller's id is ever a node's session, and claim.lua knows which claims may be repeated.
    return f"http-key-{claim_id}" if claim_id else f"http-{waiter or uuid.uuid4().hex}"


def _name(worker: str) -> str:
    return f"http:{worker}" if worker else "http"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
