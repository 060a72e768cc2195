"""How what bounds the jobs of a type is told: limits, breakers and pauses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gopher_node.api.answers.documents import Count, Document, JobId, Moment, Seconds
from gopher_node.api.answers.views import format_time
from gopher_node.flow import FlowPolicy, Rate
from gopher_node.store import Breaker, BreakerMove

BreakerState = Literal["closed", "open", "half-open", "forced-open", "forced-closed"]
STATES = (
    "It lets jobs through (closed), none (open), or one to see whether it ends well (half-open); or an operator holds "
    "it open or closed."
)


class RateDocument(Document):
    """So many jobs in so many seconds, evenly; a burst of them at once, if none were begun for a while."""

    limit: float = Field(ge=0, examples=[100])
    per: Seconds = Field(description="Seconds.", examples=[1])
    burst: Count = Field(examples=[10])


class BreakerPolicyDocument(Document):
    """When the jobs of a type are held back because its runs fail."""

    ratio: float = Field(ge=0, le=1, description="The part of the runs that fail.")
    minimum: Count = Field(description="How many runs have to have ended.")
    window: Seconds = Field(description="Seconds within which they are counted.")
    cooldown: Seconds = Field(description="Seconds after which one job is let through.")


class PolicyDocument(Document):
    """What bounds the jobs of a type, in the whole cluster; null is not bounded."""

    rate_limit: RateDocument | None
    group_rate_limit: RateDocument | None = Field(description="Of each group by itself; and so the next but one.")
    max_running: Count | None = Field(description="How many may run at once.")
    group_max_running: Count | None
    max_backlog: Count | None = Field(description="How many may wait; a queue that has so many takes no more.")
    breaker: BreakerPolicyDocument | None


class RateLimitDocument(Document):
    """The rate limit of a type; what is null is not limited."""

    type: str
    limit: float | None = Field(ge=0, examples=[100])
    per: Seconds | None = Field(description="Seconds.", examples=[1])
    burst: Count | None = Field(examples=[10])
    group: RateDocument | None = Field(description="That of each group by itself.")


class RateLimitListDocument(Document):
    items: list[RateLimitDocument]


class BreakerDocument(Document):
    """A type's breaker, as all nodes see it."""

    type: str
    state: BreakerState = Field(description=STATES)
    since: Moment | None = Field(description="Null if it has never moved.")
    until: Moment | None = Field(description="When an open one lets a job through.")
    probe: JobId | None = Field(description="The job whose end decides, while it runs.")
    ok: Count = Field(description="Runs within the window that ended well.")
    failed: Count = Field(description="Runs within the window that ended in an error or a crash.")
    policy: BreakerPolicyDocument


class BreakerListDocument(Document):
    items: list[BreakerDocument]


class BreakerMoveDocument(Document):
    """How a breaker moved, and why; `ok` and `failed` are the runs that were counted then."""

    at: Moment
    before: BreakerState
    after: BreakerState
    reason: Literal["failures", "cooldown", "probe-succeeded", "probe-failed", "forced", "reset"]
    ok: Count
    failed: Count
    job_id: JobId | None = Field(description="The probe's.")


class BreakerDetailDocument(BreakerDocument):
    history: list[BreakerMoveDocument] = Field(description="Its last hundred moves, the latest first.")


def show_rate(rate: Rate) -> dict[str, Any]:
    return {"limit": rate.limit, "per": rate.per, "burst": rate.burst}


def show_rate_limit(type: str, policy: FlowPolicy) -> dict[str, Any]:
    own: dict[str, Any] = {"limit": None, "per": None, "burst": None}
    if policy.rate is not None:
        own = show_rate(policy.rate)
    return {"type": type, **own, "group": None if policy.group_rate is None else show_rate(policy.group_rate)}


def show_breaker(breaker: Breaker) -> dict[str, Any]:
    policy = breaker.policy
    return {
        "type": breaker.type,
        "state": breaker.state,
        "since": format_time(breaker.since_ms),
        "until": format_time(breaker.until_ms),
        "probe": breaker.probe,
        "ok": breaker.ok,
        "failed": breaker.failed,
        "policy": {
            "ratio": policy.ratio,
            "minimum": policy.minimum,
            "window": policy.window,
            "cooldown": policy.cooldown,
        },
    }


def show_move(move: BreakerMove) -> dict[str, Any]:
    return {
        "at": format_time(move.at_ms),
        "before": move.before,
        "after": move.after,
        "reason": move.reason,
        "ok": move.ok,
        "failed": move.failed,
        "job_id": move.job_id,
    }
