"""The settings of /metrics."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from gopher_node.settings import kinds
from gopher_node.settings.layers import setting


class MetricsSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    anonymous: kinds.Truth = setting(
        False,
        "Whether everybody may read /metrics; otherwise, where keys are in force, it takes one with the scope read.",
    )
