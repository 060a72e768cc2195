"""Questions about recurring jobs: make, look, change, pause, trigger, and when a schedule would fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gopher_node.client.calls.call import API, Call, Duration, encode, members, read_nothing, refuse_unknown
from gopher_node.client.calls.jobs import Listing
from gopher_node.client.problems import Problem, RecurringNotFound
from gopher_node.client.views import JobView, PreviewView, RecurringPage, RecurringView
from gopher_node.job import TYPE_NAME, Priority, RetryPolicy


class RecurringOptions(TypedDict, total=False):
    """
    When a recurring job fires (`cron_expression`, with a `timezone`, or `every`), and how each of its jobs is to run.

    `missed` says what becomes of fires that no node was there for, `overlap` whether it fires while its last job has
    not ended.
    """

    cron_expression: str | None
    every: Duration | None
    timezone: str | None
    missed: Literal["skip", "once", "all"] | None
    overlap: Literal["allow", "skip"] | None
    priority: Priority | str | int | None
    max_retries: int | None
    group: str | None
    timeout: Duration | None
    tags: Sequence[str] | None
    retention: Duration | None
    callback_url: str | None
    ttl: Duration | None
    retry: RetryPolicy | Mapping[str, Any] | None


class RecurringChanges(RecurringOptions, total=False):
    """What may change of a recurring job."""

    type: str | None
    payload: Any


def page(limit: int | None) -> Listing[RecurringView]:
    return Listing(f"{API}/recurring", {}, limit, RecurringPage.read)


def get(name: str) -> Call[RecurringView]:
    return Call(method="GET", path=_path(name), read=RecurringView.read)


def create(name: str, type: str, payload: Any, options: RecurringOptions) -> Call[RecurringView]:
    body = {"name": name, **_body({"type": type, "payload": payload, **options})}
    # The same content for the same name is answered as it is by then.
    return Call(method="POST", path=f"{API}/recurring", body=encode(body), told_twice=True, read=RecurringView.read)


def edit(name: str, changes: RecurringChanges) -> Call[RecurringView]:
    body = _body(changes)
    if not body:
        raise ValueError("Say what is to change of the recurring job.")
    return Call(method="PATCH", path=_path(name), body=encode(body), told_twice=True, read=RecurringView.read)


def delete(name: str) -> Call[None]:
    return Call(method="DELETE", path=_path(name), read=read_nothing)


def pause(name: str) -> Call[RecurringView]:
    return Call(method="POST", path=f"{_path(name)}/pause", told_twice=True, read=RecurringView.read)


def resume(name: str) -> Call[RecurringView]:
    return Call(method="POST", path=f"{_path(name)}/resume", told_twice=True, read=RecurringView.read)


def trigger(name: str) -> Call[JobView]:
    return Call(method="POST", path=f"{_path(name)}/trigger", read=JobView.read)


def preview(
    cron_expression: str | None, every: Duration | None, timezone: str | None, count: int | None
) -> Call[PreviewView]:
    body = encode(members(cron_expression=cron_expression, every=every, timezone=timezone, count=count))
    return Call(method="POST", path=f"{API}/recurring/preview", body=body, told_twice=True, read=PreviewView.read)


def _body(options: Mapping[str, Any]) -> dict[str, Any]:
    refuse_unknown(options, RecurringChanges.__optional_keys__, "A recurring job has no option")
    return members(**options)


def _path(name: str) -> str:
    if not TYPE_NAME.match(name):
        # There is none, and the node need not be asked.
        raise RecurringNotFound(
            Problem(status=404, type="recurring-not-found", detail=f"No recurring job has the name {name!r}.")
        )
    return f"{API}/recurring/{name}"
