"""The setting `flow`: what bounds the jobs of each type, on all nodes together."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import PlainValidator

from gopher_node.flow import FlowPolicy
from gopher_node.limits import read_flow


def _flow(value: object) -> dict[str, FlowPolicy]:
    # As text it is JSON, for it is too much for anything shorter.
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('must be JSON such as {"email": {"rate_limit": "100/s"}}') from None
    return read_flow(value)


FlowTable = Annotated[dict[str, FlowPolicy], PlainValidator(_flow)]
