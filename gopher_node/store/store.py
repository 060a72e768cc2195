"""The store: one method per verb, each one atomic step that may safely be told twice."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from gopher_node.errors import InvalidState, SessionLost, UnusableStore
from gopher_node.job import DEFAULT_WEIGHTS, Job, Lease, NewJob, Priority, State, Token
from gopher_node.store import replies, server
from gopher_node.store.breakers import Breakers
from gopher_node.store.connections import Connections
from gopher_node.store.flow import Flow
from gopher_node.store.group_commit import GroupCommit
from gopher_node.store.history import History, read_queues
from gopher_node.store.keys import Keys
from gopher_node.store.latencies import Latencies
from gopher_node.store.leases import Leases, claim_words
from gopher_node.store.listening import Listener
from gopher_node.store.logs import Logs
from gopher_node.store.looking import Looking
from gopher_node.store.nodes import Nodes
from gopher_node.store.operating import Operating, Verb
from gopher_node.store.recurring import Recurrences
from gopher_node.store.scripts import Scripts
from gopher_node.store.snapshot import Snapshots
from gopher_node.store.submitting import Submitting
from gopher_node.store.values import (
    Acted,
    Claimed,
    JobFilter,
    Once,
    Overdue,
    Page,
    Pool,
    Promoted,
    QueueState,
    Retention,
    Session,
    Stats,
    Submitted,
    Survey,
)
from gopher_node.store.watching import Watching
from gopher_node.store.workflows import Workflows

LAYOUT = 1
Settlement = tuple[Any, ...]


class Store:
    """
    Holds all jobs of one namespace.

    A verb whose answer is lost is told again until `patience` seconds have passed, for a repeat changes nothing. Then
    it raises StoreUnavailable if no try reached anybody, or OutcomeUnknown if it may have been carried out. A `hasty`
    store does so at once while the server is known to be away. One that stands `beside` another hears what is published
    over that one's connection, and needs no close of its own; no channel may be wanted by both.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        namespace: str = "gopher",
        retention: Retention | None = None,
        patience: float = 5.0,
        script_flags: bool = True,
        hasty: bool = False,
        beside: Store | None = None,
    ) -> None:
        self.namespace = namespace
        self.retention = retention or Retention()
        self.patience = patience
        self.durability = "unknown"
        self._connections = connections
        self._scripts = Scripts(connections, namespace, flags=script_flags, hasty=hasty)
        if beside is not None:
            self._listener = beside._listener
        else:
            self._listener = Listener(connections, self._scripts.prefix, lambda error: self.on_trouble(error))
        self._submitting = Submitting(
            self._run, lambda: self.retention.idempotency, lambda due_in_ms: self.on_scheduled(due_in_ms / 1000)
        )
        self._looking = Looking(self._run)
        self._operating = Operating(self._run, self._looking.ids, self.get)
        self.workflows = Workflows(self._run, self._submitting.workflow, self._operating.cancel_all)
        size, weight = replies.settlement_size, replies.settlement_weight
        self._settlements = GroupCommit[Settlement, bytes](self._send_settlements, size=size, weight=weight)
        # Told, in seconds from now, when a job is stored that is due later: the node's scheduler sets its alarm by it.
        self.on_scheduled: Callable[[float], None] = lambda due_in: None
        self.on_trouble: Callable[[Exception], None] = lambda error: None  # told what the listener did not foresee
        self.leases = Leases(self._run, patience)
        self.keys = Keys(self._run, self._scripts.run, self._listener)
        self.nodes = Nodes(self._run)
        self.snapshots = Snapshots(self._run, self.nodes, connections)
        self.history = History(self._run)
        self.latencies = Latencies(self._run)
        self.logs = Logs(self._run)
        self.recurring = Recurrences(self._run, lambda due_in: self.on_scheduled(due_in))
        self.breakers = Breakers(self._run)
        self.flow = Flow(self._run)
        self._watching = Watching(self._run, self.get, self._listener)

    async def open(self) -> None:
        """Check that the server can keep jobs safely, and enter the namespace. Raises UnusableStore if not."""
        self.durability = await server.check(self._connections)
        await server.check_channels(self._connections, self._scripts.prefix)
        layout = int(await self._run("open", LAYOUT))
        if layout > LAYOUT:
            raise UnusableStore(
                f"The data in namespace {self.namespace!r} have layout {layout}, which is newer than this gopher-node "
                f"knows ({LAYOUT}). Run the newer version, or choose another namespace."
            )

    async def close(self) -> None:
        await self._listener.close()
        await self._connections.close()

    async def ping(self) -> None:
        await self._connections.request("PING")

    async def _run(self, script: str, *arguments: Any, now: int | None = None) -> Any:
        return await self._scripts.insist(self.patience, script, *arguments, now=now)

    # Submitting

    async def submit(self, job: NewJob, once: Once | None = None) -> Submitted:
        """
        Store a new job. Concurrent callers share a request. A job whose id is known is left as it is.

        With `once`, the key's first use stores the job under an id that the store chooses, and all others are answered
        as that was; with another request they raise KeyReused. A client's own id that is taken raises JobExists, a
        unique key DuplicateJob unless that job is to be the answer; ParentNotFound, DependencyCycle, WorkflowNotFound
        and WorkflowEnded are about what it depends on or belongs to.
        """
        return await self._submitting.one(job, once)

    async def submit_many(
        self, jobs: Sequence[NewJob], *, once: Once | None = None, now: int | None = None
    ) -> list[Submitted]:
        """Store up to 1,000 new jobs in one step: all of them or, on any error, none. Raises as `submit` does."""
        return await self._submitting.many(jobs, once, now)

    # Working

    async def open_session(self, node: str, lease: float) -> Session:
        """Begin a session that lives as long as it is renewed at least every `lease` seconds."""
        session = Session(node, lease)
        await self._run("open_session", session.id, round(lease * 1000), node)
        return session

    async def renew(self, session: Session) -> None:
        """Raises SessionLost when the session has been reaped or closed."""
        if not await self._run("renew", session.id):
            raise SessionLost

    async def close_session(self, session: Session, *, now: int | None = None) -> None:
        """End a session; whatever it still holds is released."""
        while await self._run("close_session", session.id, now=now):
            pass

    async def claim(
        self,
        session: Session,
        pool: Pool,
        limit: int,
        *,
        timeout: float = 300.0,
        grace: float = 30.0,
        limits: Mapping[str, int] | None = None,
        timeouts: Mapping[str, float] | None = None,
        weights: Mapping[Priority, int] = DEFAULT_WEIGHTS,
        suspects: int | None = None,
        claim_id: str | None = None,
        now: int | None = None,
    ) -> Claimed:
        """
        Take up to `limit` jobs of the pool's types.

        A run that is not settled `grace` seconds after its timeout is taken away: the job's own, else its type's in
        `timeouts`, else `timeout`. `limits` bounds how many jobs of a type are taken, and `suspects` how many
        crash suspects; those beyond are put off for a second. A claim with the id of the session's last one gets that
        one's answer. Raises SessionLost.
        """
        lengths: dict[str, Any] = {"timeout": timeout, "grace": grace, "timeouts": timeouts}
        words = claim_words(pool, limit, **lengths, limits=limits, weights=weights, suspects=suspects)
        arguments = [session.id, claim_id or uuid.uuid4().hex, *words]
        answer = await self._run("claim", *arguments, now=now)
        if answer[0] == b"no-pool":
            await self._run("open_pool", pool.key, "", *pool.types, now=now)
            answer = await self._run("claim", *arguments, now=now)
        if answer[0] == b"no-session":
            raise SessionLost
        return Claimed([replies.lease(entry) for entry in answer[2:]], answer[1])

    async def wait_for_work(self, pool: Pool, timeout: float) -> bool:
        """Wait, after a claim that had room left, until something can be served: True, or False after `timeout`."""
        # A blocking pop cannot stand in a script, so this one key is named here; prelude.lua tells what it is.
        key = f"{self._scripts.prefix}wake:{pool.key}"
        timeout = max(timeout, 0.001)  # 0 would mean for ever
        return await self._connections.wait("BLPOP", key, f"{timeout:.3f}", patience=timeout) is not None

    async def complete(
        self, lease: Lease | Token, result: bytes = b"null", follow_ups: Sequence[NewJob] = (), *, mark: str = ""
    ) -> State | None:
        """
        Settle a run that succeeded, and create its follow-up jobs in the same step. None: the lease is stale.

        A `mark` of all that is told lets a repeat be told from another completion, which raises InvalidState.
        """
        # What was settled before is told the state it got then, whatever is said now; so by each of these verbs.
        return await self._settle("complete", lease, result, follow_ups=follow_ups, mark=mark)

    async def retry(self, lease: Lease | Token, error: bytes, delay: float) -> State | None:
        """Settle a run that failed: again in `delay` seconds, or failed for good when no retries are left."""
        return await self._settle("retry", lease, error, delay_ms=max(0, round(delay * 1000)))

    async def fail(self, lease: Lease | Token, error: bytes) -> State | None:
        """Settle a run whose job can never succeed."""
        return await self._settle("fail", lease, error)

    async def crash(self, lease: Lease | Token, error: bytes, delay: float = 0.0) -> State | None:
        """Settle a run whose own process died: again in `delay` seconds, or failed if that makes `max_crashes`."""
        return await self._settle("crash", lease, error, delay_ms=max(0, round(delay * 1000)))

    async def release(self, lease: Lease | Token) -> State | None:
        """Hand an unfinished run's job back to the front of its lane; it counts against no budget."""
        return await self._settle("release", lease, b"")

    async def cancelled(self, lease: Lease | Token, error: bytes = b"") -> State | None:
        """Settle a run that stopped because somebody wanted its job cancelled."""
        return await self._settle("cancelled", lease, error)

    async def _settle(
        self,
        outcome: str,
        lease: Lease | Token,
        body: bytes,
        *,
        delay_ms: int = 0,
        follow_ups: Sequence[NewJob] = (),
        mark: str = "",
    ) -> State | None:
        said = mark if outcome == "complete" else delay_ms
        settlement: list[Any] = [outcome, *replies.token_words(lease), body, said, len(follow_ups)]
        settlement += [field for job in follow_ups for field in replies.new_job_fields(job)]
        answer = await self._settlements.call(tuple(settlement))
        if answer == b"other":
            raise InvalidState(State.COMPLETED, "This run was settled before, with another outcome.")
        if answer == b"scheduled":
            self.on_scheduled(delay_ms / 1000)
        elif answer == b"completed" and any(job.due_ms or job.delay_ms for job in follow_ups):
            self.on_scheduled(0.0)  # when exactly, the scheduler is told by the store
        return None if answer == b"stale" else State(answer.decode())

    async def _send_settlements(self, settlements: Sequence[Settlement], *, now: int | None = None) -> list[bytes]:
        fields = [field for settlement in settlements for field in settlement]
        return await self._run("settle", *self._keep, len(settlements), *fields, now=now)

    async def progress(self, lease: Lease | Token, value: bytes) -> bool:
        """Store how far a run is. False: it should stop, for its lease is stale or its job is to be cancelled."""
        answer = await self._run("progress", *replies.token_words(lease), value)
        return answer == b"ok"

    # Keeping time

    async def promote(self, limit: int = 200, *, now: int | None = None) -> Promoted:
        """Move up to `limit` due jobs into their lanes."""
        count, fans, *times, now_ms = await self._run("promote", limit, now=now)
        waits = (None if time is None else max(0.0, (time - now_ms) / 1000) for time in times)
        return Promoted(count, *waits, fans=bool(fans))

    async def expire(self, limit: int = 200, *, now: int | None = None) -> int:
        """End up to `limit` waiting jobs whose time to start is over. Returns how many."""
        return await self._run("expire", limit, now=now)

    async def survey(self, limit: int = 200, ahead_ms: int = 0, passed: int = 0, *, now: int | None = None) -> Survey:
        """The sessions, and up to `limit` runs whose lease ends within `ahead_ms`, but for the first `passed`."""
        return replies.survey(await self._run("survey", limit, ahead_ms, passed, now=now))

    async def reap_session(self, session_id: str, renewals: int, *, now: int | None = None) -> int:
        """Take back all jobs of a session that still stands at `renewals`. Returns how many."""
        taken, left = 0, -1
        while left:
            before = left
            count, left = await self._run("reap", "session", session_id, renewals, 200, now=now)
            taken += count
            if not count and left >= before >= 0:
                break  # it makes no headway
        return taken

    async def reap_overdue(self, runs: Sequence[Overdue], *, now: int | None = None) -> int:
        """Take back jobs whose runs are past the end of their lease, if it is still that one. Returns how many."""
        taken = 0
        for start in range(0, len(runs), 200):
            words = [part for run in runs[start : start + 200] for part in (run.id, run.nonce, run.deadline_ms)]
            count, _ = await self._run("reap", "overdue", len(words) // 3, *words, now=now)
            taken += count
        return taken

    async def prune(self, limit: int = 200, *, now: int | None = None) -> int:
        """Forget up to `limit` finished jobs that outlived their retention. Returns how many went."""
        return await self._run("prune", limit, *self._keep, now=now)

    @property
    def _keep(self) -> tuple[int, int, int]:
        return round(self.retention.completed * 1000), round(self.retention.cancelled * 1000), self.retention.max_jobs

    # Operating

    async def cancel(self, id: str, *, now: int | None = None) -> Job:
        """End a waiting job, or ask the holder of a running one to stop. Raises JobNotFound, or InvalidState."""
        return await self._operating.cancel(id, now)

    async def requeue(self, id: str, *, now: int | None = None) -> Job:
        """Run a finished job again, with full budgets. Raises JobNotFound, InvalidState, or DuplicateJob."""
        return await self._operating.requeue(id, now)

    async def requeue_failed(self, type: str | None = None) -> int:
        """Run again every job that is failed at the time of the call. Returns how many."""
        return await self._operating.retry_failed(type)

    async def edit(
        self,
        id: str,
        *,
        priority: Priority | None = None,
        due_ms: int | None = None,
        delay_ms: int | None = None,
        now: int | None = None,
    ) -> Job:
        """
        Give a waiting job another priority or due time; it moves to where these say, in a lane to the end.

        A blocked one stays blocked until it is released. Raises JobNotFound, or InvalidState if it does not wait.
        """
        job = await self._operating.edit(id, priority, due_ms, delay_ms, now)
        if job.state is State.SCHEDULED and (due_ms, delay_ms) != (None, None):
            self.on_scheduled((delay_ms or 0) / 1000)  # when exactly, the scheduler is told by the store
        return job

    async def run_now(self, id: str, *, now: int | None = None) -> Job:
        """Let a scheduled job be due now; an enqueued one is left. Raises JobNotFound, or InvalidState for others."""
        return await self._operating.run_now(id, now)

    async def delete(self, id: str) -> None:
        """Forget a job. Raises JobNotFound, or InvalidState for one that is running."""
        await self._operating.delete(id)

    async def act(
        self, verb: Verb, filter: JobFilter, cursor: str | None = None, limit: int = 200, *, now: int | None = None
    ) -> Acted:
        """
        One step of a verb over all jobs that match: up to `limit` of them, at most 200.

        A filter without states means those that the verb is for; a retry is for failed jobs. Jobs whose state does not
        allow the verb are passed over. Raises ValueError for a cursor of another walk.
        """
        return await self._operating.act(verb, filter, cursor, limit, now)

    async def act_on(self, verb: Verb, ids: Sequence[str], states: tuple[State, ...]) -> int:
        """Apply a verb to up to 200 jobs, where they are in one of these states. Returns how many it changed."""
        return await self._operating.act_on(verb, ids, states)

    async def purge(self, type: str, priority: Priority | None = None) -> int:
        """Delete the waiting jobs of a type, enqueued and scheduled. Returns how many."""
        return await self._operating.purge(type, priority)

    # Looking

    async def get(self, id: str) -> Job:
        """Raises JobNotFound."""
        return await self._looking.one(id)

    async def list(self, filter: JobFilter | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of jobs: running and waiting ones, then finished ones from the latest on. Raises ValueError."""
        return await self._looking.page(filter or JobFilter(), limit, cursor)

    async def stats(self) -> Stats:
        return replies.stats(await self._run("stats"))

    async def queues(self, type: str | None = None, *, now: int | None = None) -> Sequence[QueueState]:
        """How all queues stand that have, or had, jobs; or the one of this type, if anything is known of it."""
        return await read_queues(self._run, type, now)

    # Listening

    async def wait(self, id: str, timeout: float) -> Job:
        """The job as it is when it has ended, or after `timeout` seconds. Raises JobNotFound."""
        return await self._watching.wait(id, timeout)

    def follow(self, id: str) -> AsyncGenerator[Job]:
        """
        The job as it is now, and again after each change until it has ended.

        Changes that come faster than they are taken are told as one. Raises JobNotFound, also when the job vanishes.
        """
        return self._watching.follow(id)

    def cancellations(self, session: Session) -> AsyncIterator[str]:
        """The ids of jobs that this session runs and somebody wants cancelled, as they are asked for. Ends never."""
        return self._watching.cancellations(session)
