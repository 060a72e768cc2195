"""The job type `job_callback`: tells the `callback_url` of a job that the job has ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, JsonValue, StringConstraints

from gopher_node.errors import Fail, Retry
from gopher_node.handlers.builtin.addresses import MAX_URL, callback_refusal
from gopher_node.handlers.builtin.delivery import Outgoing, message_headers
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext
from gopher_node.job import RetryPolicy

TYPE = "job_callback"
TIMEOUT = 5.0
# With the store's CALLBACK_RETRIES that is more than a day on average: longer than a receiver's deploy or outage.
RETRY = RetryPolicy(base=5.0, cap=43_200.0)

Milliseconds = Annotated[int, Field(ge=0, le=253_402_300_799_999)]


class Callback(Payload):
    """How a job ended, as the store wrote it when it did; times are epoch milliseconds."""

    url: Annotated[str, StringConstraints(max_length=MAX_URL)]
    job_id: str
    type: str
    status: Literal["completed", "failed", "cancelled"]
    attempt: int
    created: Milliseconds
    finished: Milliseconds
    result: JsonValue = None
    error: JsonValue = None
    result_omitted: bool = Field(False, description="The result was too large to be copied: it is with the job.")


async def call_back(ctx: JobContext, payload: Callback) -> dict[str, Any]:
    """Tell a job's callback_url that it has ended: a Standard Webhooks message, signed if WEBHOOK_SECRET is set."""
    settings = ctx.settings.webhook
    refusal = callback_refusal(payload.url, settings.allow)
    if refusal is not None:
        # It passed when the job was submitted, perhaps by a node whose WEBHOOK_ALLOW is another.
        raise Fail(f"The callback_url {refusal}.", code="address-refused")
    body = orjson.dumps(_message(payload)).decode()
    headers = message_headers(settings.secret, "WEBHOOK_SECRET", ctx.idempotency_key, body)
    try:
        answer = await Outgoing.of(ctx).send(
            "POST", payload.url, body=body.encode(), headers=headers, timeout=TIMEOUT, trusted=False
        )
    except Retry as retry:
        # Not before the receiver wishes; but a proxy's "Retry-After: 5" must not use up all retries within a minute.
        asked = retry.after if isinstance(retry.after, float) else 0.0
        retry.after = max(asked, RETRY.delay(ctx.attempt))
        raise
    return {"status": answer.status, "signed": settings.secret is not None}


def _message(payload: Callback) -> dict[str, Any]:
    data: dict[str, Any] = {
        "job_id": payload.job_id,
        "type": payload.type,
        "status": payload.status,
        "attempt": payload.attempt,
        "created_at": _format_time(payload.created),
        "finished_at": _format_time(payload.finished),
        "result": payload.result,
        "error": _without_traceback(payload.error),
    }
    if payload.result_omitted:
        data["result_omitted"] = True
    return {"type": f"job.{payload.status}", "timestamp": data["finished_at"], "data": data}


def _without_traceback(error: JsonValue) -> JsonValue:
    # What the code looks like inside is no business of whoever wants to know how a job ended.
    return {name: error[name] for name in error if name != "traceback"} if isinstance(error, dict) else error


def _format_time(epoch_ms: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{milliseconds:03}Z"
