"""The API as its description says, seen from outside: generated requests, good and bad, against a node of its own."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData, UnsupportedMethodResponse

from tests.node.node_process import running

pytestmark = pytest.mark.process

KEY = "a-key-for-the-contract-0123456789abcdef"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)
# Not among them: use_after_free and ensure_resource_availability, for the node runs, keeps and forgets jobs meanwhile,
# and ignored_auth, for an address that is open while a node has no keys says so, and is then not checked anyway.

# A schema cannot say these things, so a request that it calls valid may be refused with these codes.
BEYOND_SCHEMAS = {
    "conflict",  # of two fields that exclude each other; a filter beside `all`
    "missing",  # one of two fields is needed; a filter, or else `all`
    "invalid-run-at",  # at most a year from now; leap seconds
    "invalid-time",  # leap seconds
    "invalid-duration",  # text that says more than a hundred years
    "invalid-schedule",  # text that is no cron expression, or no time zone
    "out-of-range",  # text that says more than is allowed here
    "callback-not-allowed",  # depends on the settings
    "invalid-cursor",  # only what was answered before is one
    "int-type",  # 5.0, which a schema takes for an integer
}
# The same for problems of a request as a whole.
REQUESTS_BEYOND_SCHEMAS = {
    "number-out-of-range",  # integers have up to 64 bits
    "json-too-deep",
    "invalid-payload",
    "idempotency-key-reused",
    "parent-not-found",  # depends_on has ids of what is stored, or names of the same request
    "dependency-cycle",
    "invalid-idempotency-key",  # a stream has none
}

# Words that stand where an id may stand too. Another method there is one for the job of that id, which there is not.
AMBIGUOUS = ("/bulk", "/cancel", "/retry", "/run-now", "/create", "/preview")


@schemathesis.serializer("application/x-ndjson")
def _lines(context: Any, value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


SUBMITS = ("/api/v1/jobs", "/api/v1/jobs/bulk", "/api/jobs", "/jobs/create")


class Conversation:
    """Has later requests be about jobs, leases and keys that earlier ones made, and says which failures are none."""

    def __init__(self) -> None:
        self.jobs: deque[str] = deque(maxlen=20)
        self.tokens: deque[str] = deque(maxlen=20)
        self.asked = 0

    def before_call(self, case: Any) -> None:
        self.asked += 1
        # The wait itself is tested elsewhere; a minute of it would be too long here.
        if isinstance(case.body, dict) and _is_wait(case.body.get("wait")):
            case.body["wait"] = "1ms"
        if case.query and _is_wait(case.query.get("wait")):
            case.query["wait"] = "1ms"
        path = case.path_parameters or {}
        if case.meta is None or not case.meta.generation.mode.is_positive:
            return
        for job in case.body if isinstance(case.body, list) else [case.body]:
            if case.operation.path in SUBMITS and isinstance(job, dict):
                _make_acceptable(job)
        for name, known in (("job_id", self.jobs), ("token", self.tokens)):
            if name in path and known and self.asked % 4:
                path[name] = known[self.asked % len(known)]

    def after_call(self, case: Any, response: Any) -> None:
        if response.status_code not in (200, 201) or response.headers["content-type"] != ["application/json"]:
            return
        told = response.json()
        if case.operation.path == "/api/v1/leases":
            self.tokens += [lease["token"] for lease in told["items"]]
        elif case.operation.method == "post" and isinstance(told, dict) and "job_id" in told:
            self.jobs.append(told["job_id"])

    def is_one(self, failure: Any, case: Any, response: Any) -> bool:
        """Whether this failure is one."""
        path, status = case.operation.path, response.status_code
        match failure:
            case RejectedPositiveData() if status in (400, 422):
                problem = response.json()
                if problem["type"].removeprefix("/problems/") in REQUESTS_BEYOND_SCHEMAS:
                    return False
                faults = problem.get("errors", ())
                return not faults or not all(_is_beyond_schemas(fault) for fault in faults)
            case AcceptedNegativeData():
                # A batch that is too long is refused with 413, which it does not know as a refusal; and what is wrong
                # with one item of several, or one line, is told in its place.
                if status == 413 or case.media_type == "application/x-ndjson":
                    return False
                return not (path.startswith("/api/v1/leases/") and status == 200 and "items" in response.json())
            case UnsupportedMethodResponse() | AllowHeaderMismatch():
                return not path.endswith(AMBIGUOUS)
        return True


def _make_acceptable(job: dict[str, Any]) -> None:
    """Mend most of what a schema cannot say, so that the job is stored."""
    job["type"] = job.pop("queue", None) or job.get("type") or "elsewhere"
    job.pop("retries", None)
    job.pop("recurring", None)
    job.pop("callback_url", None)
    if job.get("delay") is not None:
        job.pop("execute_at", None)


def _is_beyond_schemas(fault: dict[str, str]) -> bool:
    # What a payload must look like depends on the type's handler.
    return fault["code"] in BEYOND_SCHEMAS or "payload" in fault.get("pointer", "").split("/")


def _is_wait(value: object) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def check(url: str, *, phases: list[str], examples: int) -> tuple[set[str], list[str]]:
    """The operations that were called, and all that was not as described."""
    config = SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Bearer {KEY}"},
            "request-timeout": 20,
            "continue-on-failure": True,
            "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
            "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 404, 409, 429]}},
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    config.projects.default.checks.update(included_check_names=list(CHECKS))
    # A stream of events lasts as long as its job. tests/api/test_events.py reads them.
    schema = schema.exclude(operation_id="follow_job")
    called: set[str] = set()
    wrong: list[str] = []
    for event in _converse(schema):
        if isinstance(event, events.ScenarioFinished):
            called.add(event.label)
            for checks in event.recorder.checks.values():
                wrong += [
                    f"{event.label}: {node.failure_info.failure!r}\n{node.failure_info.code_sample}"
                    for node in checks
                    if node.status is Status.FAILURE and node.failure_info is not None
                ]
        elif isinstance(event, events.NonFatalError):
            wrong.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return called, wrong


def _converse(schema: Any) -> Iterator[Any]:
    told = Conversation()
    # Only functions are taken, and they are taken by the names of their parameters.
    hooks = {
        "before_call": lambda context, case, kwargs: told.before_call(case),
        "after_call": lambda context, case, response: told.after_call(case, response),
        "filter_failure": lambda context, failure, case, response: told.is_one(failure, case, response),
    }
    for name, hook in hooks.items():
        schemathesis.hook(name)(hook)
    try:
        yield from from_schema(schema).execute()
    finally:
        for hook in hooks.values():
            schemathesis.hooks.unregister(hook)


async def test_what_is_answered_is_what_is_described(
    tmp_path: Path, valkey_url: str, namespace: str, pytestconfig: pytest.Config
) -> None:
    examples = 4 if pytestconfig.getoption("all") else 1
    async with running(
        f"--data-dir={tmp_path}",
        GOPHER_API_KEYS=KEY,
        REDIS_URL=valkey_url,
        GOPHER_NAMESPACE=namespace,
    ) as node:
        called, wrong = await asyncio.to_thread(check, node.url, phases=["fuzzing"], examples=examples)
        mistakes = [line for line in node.log if line.get("msg") == "http.failed"]
    assert wrong == [], "\n\n".join(wrong)
    assert mistakes == []
    assert len(called) > 50
