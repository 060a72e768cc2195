"""The job type `process_payment`: a charge at the operator's endpoint, made once however often the job runs."""

from __future__ import annotations

import re
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, StringConstraints

from gopher_node.errors import Fail
from gopher_node.handlers.builtin.delivery import Outgoing, json_or_text, signature
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

TIMEOUT = 30.0
_DECIMAL = re.compile(r"[0-9]{1,13}(\.[0-9]{1,4})?\Z")


def _check_decimal(text: str) -> str:
    if not _DECIMAL.match(text) or not text.strip("0."):
        raise ValueError('must be more than 0 and written like "19.99"')
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Payment(Payload):
    """A charge. It is sent as it is given: `amount` is text such as "19.99", or an integer in the smallest unit."""

    amount: Annotated[int, Field(gt=0, lt=10**15)] | Annotated[str, AfterValidator(_check_decimal)]
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
    order_id: Name
    customer_id: Name | None = None
    description: Name | None = None
    metadata: Annotated[dict[Name, Name], Field(max_length=50)] = Field(default_factory=dict[str, str])


async def charge(ctx: JobContext, payload: Payment) -> dict[str, Any]:
    """Charge through PAYMENT_URL; the Idempotency-Key is the job's, so a repeated run cannot charge twice."""
    settings = ctx.settings.payment
    if settings.url is None:
        raise Fail("Payments need the setting PAYMENT_URL, the endpoint that takes them.", code="setting-missing")
    body = orjson.dumps(payload.model_dump(exclude_defaults=True)).decode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": ctx.idempotency_key}
    if settings.secret is not None:
        headers |= signature(settings.secret, "PAYMENT_SECRET", ctx.idempotency_key, body)
    answer = await Outgoing.of(ctx).send(
        "POST", settings.url, body=body.encode(), headers=headers, timeout=TIMEOUT, trusted=True
    )
    return {
        "status": answer.status,
        "order_id": payload.order_id,
        "idempotency_key": ctx.idempotency_key,
        "response": json_or_text(answer),
    }
