"""Push: the jobs of a type are sent to an HTTP endpoint of the user's, whose answer is the end of the run."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import SecretStr

from gopher_node.errors import Fail, SettingError
from gopher_node.handlers.binding import InvalidHandler, bind
from gopher_node.handlers.builtin.addresses import callback_refusal
from gopher_node.handlers.builtin.delivery import Answer, Outgoing, message_headers
from gopher_node.handlers.context import JobContext
from gopher_node.handlers.parents import ParentResult
from gopher_node.handlers.registry import Handler, Registry
from gopher_node.settings import PushTarget, Settings

MESSAGE_TYPE = "job.run"
# As much as any handler may return.
MAX_RESULT_BYTES = 1024 * 1024

_NO_SECRET = "is no secret of Standard Webhooks: whsec_ and 24 to 64 bytes in base64."
_MAKE_ONE = 'Make one with: echo "whsec_$(openssl rand -base64 32)"'


def register_push(registry: Registry, settings: Settings) -> None:
    """
    Add a handler for each type that the setting `push` names, after the user's own handlers have been registered.

    Raises SettingError for one that could not run, and for a WEBHOOK_SECRET that is none: webhooks and callbacks are
    signed with it too.
    """
    _check_webhook_secret(settings)
    for type, target in settings.push.items():
        refusal = callback_refusal(target.url, settings.webhook.allow)
        if refusal is not None:
            raise SettingError(
                f"The endpoint {target.origin}, to which the setting push sends the jobs of the type {type}, {refusal}."
            )
        secret = None
        if target.sign and settings.role != "api":
            secret = _checked_secret(type, target, settings)
        try:
            registry.replace_builtin(_make_handler(type, target, secret))
        except InvalidHandler as error:
            raise SettingError(
                f"{error} The setting push sends these jobs to {target.origin}: remove the handler to have them sent, "
                f"or remove {type} from the setting (GOPHER_PUSH, or [push] in the file) to run them here."
            ) from None


def _check_webhook_secret(settings: Settings) -> None:
    secret = settings.webhook.secret
    if secret is not None and not _is_secret(secret.get_secret_value()):
        raise SettingError(f"WEBHOOK_SECRET {_NO_SECRET} {_MAKE_ONE}.")


def _checked_secret(type: str, target: PushTarget, settings: Settings) -> SecretStr:
    secret = target.secret or settings.webhook.secret
    setting = _name_of_secret(type, target)
    if secret is None:
        fault = f"{setting} is not set"
    elif _is_secret(secret.get_secret_value()):
        return secret
    else:
        fault = f"{setting} {_NO_SECRET.rstrip('.')}"
    raise SettingError(
        f"The jobs of the type {type} are pushed to {target.origin} with a signature, and {fault}. "
        f"{_MAKE_ONE} "
        f"(or write sign = false for {type} in [push], and the endpoint cannot tell who calls it)."
    )


def _name_of_secret(type: str, target: PushTarget) -> str:
    return "WEBHOOK_SECRET" if target.secret is None else f"push.{type}.secret"


def _is_secret(text: str) -> bool:
    if not text.startswith("whsec_"):
        return False
    encoded = text.removeprefix("whsec_").rstrip("=")
    try:
        return 24 <= len(b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)) <= 64
    except (binascii.Error, ValueError):
        return False


def _make_handler(type: str, target: PushTarget, secret: SecretStr | None) -> Handler:
    setting = _name_of_secret(type, target)

    async def push(ctx: JobContext, payload: Any) -> Any:
        body = orjson.dumps(_message(ctx, payload, await ctx.parents()))
        answer = await Outgoing.of(ctx).send(
            "POST",
            target.url,
            body=body,
            # The job's id is the same in all its runs, so it is what the endpoint knows a repetition by.
            headers=message_headers(secret, setting, ctx.idempotency_key, body.decode()),
            timeout=None,  # the run has one, and breaks the request off
            trusted=False,
            most_json=MAX_RESULT_BYTES,
        )
        return _result(answer, target)

    return Handler(
        type=type,
        function=push,
        description=f"Sent to {target.origin}, whose answer is the result.",
        mode="async",
        timeout=target.timeout,
        max_retries=None,
        priority=None,
        concurrency=target.concurrency,
        retry=None,
        binding=bind(type, push),
        endpoint=target.origin,
    )


def _message(ctx: JobContext, payload: Any, parents: Mapping[str, ParentResult]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "job_id": ctx.job_id,
        "type": ctx.type,
        "payload": payload,
        "attempt": ctx.attempt,
        "max_retries": ctx.max_retries,
        "group": ctx.group or None,
        "tags": ctx.tags,
    }
    if parents:
        data["parents"] = parents
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": MESSAGE_TYPE, "timestamp": now, "data": data}


def _result(answer: Answer, target: PushTarget) -> Any:
    """JSON as it is; of anything else the status and, if there is one, the text."""
    if answer.is_json and answer.truncated:
        raise Fail(
            f"{target.origin} answered {answer.status} with more than 1 MiB of JSON, the most that a result may be. "
            "Let it store the result and answer with its address.",
            code="result-too-large",
        )
    if answer.is_json and answer.body:
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            pass  # text, whatever the headers say
    result: dict[str, Any] = {"status": answer.status}
    if answer.body:
        result["body"] = answer.text()
        result["truncated"] = answer.truncated
    return result
