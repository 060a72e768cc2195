"""What a node tells of how long jobs take and how much there is to do, as typed values that do not change."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class LatencyView(BaseModel):
    """How long something took, in seconds: half of all `p50` at most, 99 of a hundred `p99`. None if nothing did."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    count: int = 0
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class WindowView(BaseModel):
    """How long the jobs of all types took in that time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: datetime
    until: datetime
    run_seconds: LatencyView = LatencyView()
    wait_seconds: LatencyView = LatencyView()
