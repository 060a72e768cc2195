"""The handlers that every node has. A user's handler of the same type takes the place of one of these."""

from __future__ import annotations

from typing import Any

from gopher_node.handlers.builtin import (
    arithmetic,
    backup,
    callback,
    delivery,
    folders,
    images,
    mail,
    payment,
    tables,
    webhook,
)
from gopher_node.handlers.registry import Registry


async def echo(payload: Any) -> Any:
    """Return the payload as the result: what a job of no particular type does."""
    return payload


registry = Registry()
registry.handler("default")(echo)
registry.handler("email")(mail.send)
registry.handler("send_email")(mail.send)
registry.handler("math")(arithmetic.calculate)
registry.handler("image_resize", run="process")(images.resize)
registry.handler("image_processing", run="process")(images.process)
registry.handler("webhook")(webhook.deliver)
registry.handler("send_webhook")(webhook.deliver)
registry.handler(callback.TYPE)(callback.call_back)
registry.handler("process_payment")(payment.charge)
registry.handler("report")(tables.report)
registry.handler("data_export")(tables.export)
registry.handler("backup", timeout="1h", concurrency=1)(backup.back_up)
registry.handler("sync", timeout="1h", concurrency=1)(folders.sync)
registry.handler("cleanup", concurrency=1)(folders.cleanup)
registry.shutdown(delivery.close_outgoing)
