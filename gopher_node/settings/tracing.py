"""The settings of traces: where they are sent, and how many of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from gopher_node.settings import kinds
from gopher_node.settings.layers import setting

ParentMode = Literal["link", "parent"]


class TracingSettings(BaseModel):
    """What is said by the other variables of OpenTelemetry, such as OTEL_SERVICE_NAME, its own library reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    endpoint: kinds.WebUrl = setting(
        None,
        "The collector that traces are sent to, by OTLP over HTTP; unset, there are no traces.",
        env=("TRACING_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        shown=False,
    )
    sample_ratio: Annotated[float, kinds.fraction()] = setting(
        1.0, "The part of traces that is kept, from 0 to 1, of those that begin at this node; the others' is kept to."
    )
    parent_mode: Annotated[ParentMode, kinds.choice(ParentMode)] = setting(
        "link", "Whether a run is a trace of its own with a link to who sent the job, or a part of that one's."
    )
