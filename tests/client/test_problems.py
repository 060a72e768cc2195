"""The client's exceptions: which one stands for which problem, what they say, and that they can be passed on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

import gopher_node
from gopher_node import client, errors
from gopher_node.client import (
    ApiError,
    FieldError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidState,
    JobExists,
    JobFailed,
    JobNotFound,
    JobView,
    LeaseLost,
    LeaseNotFound,
    NoAnswer,
    NodeNotFound,
    NodeNotReady,
    NotFound,
    Problem,
    QueueFull,
    QueueNotFound,
    RateLimited,
    ServerUnavailable,
    TooManyRequests,
    Unauthenticated,
    WaitTimeout,
)
from gopher_node.client.problems import error_for


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "malformed-json", InvalidRequest),
        (401, "unauthenticated", Unauthenticated),
        (403, "forbidden", Forbidden),
        (404, "job-not-found", JobNotFound),
        (404, "queue-not-found", QueueNotFound),
        (404, "node-not-found", NodeNotFound),
        (404, "lease-not-found", LeaseNotFound),
        (404, "key-not-found", NotFound),
        (405, "method-not-allowed", ApiError),
        (409, "invalid-state", InvalidState),
        (409, "job-exists", JobExists),
        (409, "lease-lost", LeaseLost),
        (413, "batch-too-large", InvalidRequest),
        (415, "unsupported-media-type", InvalidRequest),
        (422, "invalid-job", InvalidRequest),
        (422, "idempotency-key-reused", IdempotencyKeyReused),
        (429, "queue-full", QueueFull),
        (429, "too-many-pools", TooManyRequests),
        (429, "rate-limited", RateLimited),
        (500, "internal", ApiError),
        (503, "store-unavailable", NodeNotReady),
    ],
)
def test_each_problem_has_its_exception(status: int, name: str, kind: type[ApiError]) -> None:
    """The problem's name decides, and else its status."""
    error = error_for(Problem(status, name))

    assert type(error) is kind
    assert (error.status, error.type) == (status, name)


def test_the_words_of_the_core_catch_them_too() -> None:
    """Who handles the errors of a store handles those of a client with the same words."""
    with pytest.raises(errors.JobNotFound):
        raise error_for(Problem(404, "job-not-found"))
    with pytest.raises(errors.InvalidState) as caught:
        raise error_for(Problem(409, "invalid-state", more={"state": "processing"}))
    assert caught.value.state == "processing"
    assert issubclass(JobExists, errors.JobExists)
    assert issubclass(LeaseLost, errors.StaleLease)
    assert issubclass(IdempotencyKeyReused, errors.KeyReused)
    assert issubclass(ServerUnavailable, errors.GopherError)


def test_what_a_refusal_is_about_is_a_value() -> None:
    """The scope that a key lacks, and the state of the job that has the id already."""
    forbidden = error_for(Problem(403, "forbidden", more={"scope": "admin"}))
    exists = error_for(Problem(409, "job-exists", more={"state": "failed"}))

    assert isinstance(forbidden, Forbidden)
    assert forbidden.scope == "admin"
    assert isinstance(exists, JobExists)
    assert exists.state == "failed"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(404, "job-not-found", "Title.", "No job has this id."), "No job has this id."),
        (Problem(404, "job-not-found", "Title."), "Title."),
        (Problem(418), "The node answered with HTTP status 418."),
        (Problem(500, "internal", "Title.", "See the log.", "a1-2"), "See the log. (instance a1-2)"),
        (
            Problem(
                422,
                "invalid-job",
                "The job is not valid.",
                "1 thing.",
                errors=(FieldError("", "x", "must be an object."),),
            ),
            "The job is not valid: the body: must be an object.",
        ),
    ],
)
def test_the_message_is_what_a_person_needs(problem: Problem, text: str) -> None:
    """Faults are told one by one, and otherwise what the node said."""
    assert str(error_for(problem)) == text


@pytest.mark.parametrize(
    ("problem", "unknown"),
    [
        (Problem(503, "draining"), False),
        (Problem(503, "too-many-connections"), False),
        (Problem(503, "store-unavailable", more={"outcome": "not-done"}), False),
        (Problem(503, "store-timeout", more={"outcome": "unknown"}), True),
        (Problem(503, "draining", more={"outcome": "unknown"}), True),
        (Problem(503, ""), True),
    ],
)
def test_whether_something_was_done_is_known(problem: Problem, unknown: bool) -> None:
    """Only where the node says that nothing was done is that taken for granted."""
    error = error_for(problem)

    assert isinstance(error, NodeNotReady)
    assert error.outcome_unknown is unknown


def test_messages_say_what_to_do_next() -> None:
    """A node that is not there is to be started; one that did not answer is to be looked at first."""
    assert "Start one" in str(ServerUnavailable("http://127.0.0.1:8080", "refused"))
    assert "look before you ask again" in str(NoAnswer.to("http://127.0.0.1:8080", "cut", changes=True))
    assert "then ask again" in str(NoAnswer.to("http://127.0.0.1:8080", "cut", changes=False))


@pytest.mark.parametrize(
    "error",
    [
        error_for(Problem(422, "invalid-job", errors=(FieldError("/a", "b", "c"),), more={"x": [1]})),
        error_for(Problem(409, "invalid-state", more={"state": "failed"})),
        error_for(Problem(404, "job-not-found", "gone")),
        ServerUnavailable("http://node.example", "refused"),
        error_for(Problem(403, "forbidden", more={"scope": "admin"})),
        error_for(Problem(409, "job-exists", more={"state": "failed"})),
        NoAnswer.to("http://node.example", "cut", changes=True, idempotency_key="k"),
        WaitTimeout(JobView(job_id="1", type="a", status="failed"), 2.0),  # type: ignore[arg-type]
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_passed_between_processes(error: Any) -> None:
    """A handler in a process of its own may use a client, and what it raises must reach the node whole."""
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


ENDED = {"job_id": "1", "type": "a", "status": "failed", "error": {"code": "exception", "message": "no paper"}}


def test_a_failed_job_says_why_and_can_be_passed_on() -> None:
    """With the job itself; one that completed is answered."""
    completed = JobView.read({**ENDED, "status": "completed", "error": None})
    assert JobFailed.unless_completed(completed) is completed

    error = pickle.loads(pickle.dumps(JobFailed(JobView.read(ENDED))))
    assert str(error) == "Job 1 failed: exception: no paper"
    assert error.job.status == "failed"
    assert str(JobFailed(JobView.read({**ENDED, "status": "cancelled", "error": None}))) == "Job 1 was cancelled."


def test_the_common_ones_stand_in_the_package() -> None:
    """They are the client's, which the store's of the same name catch as well."""
    for name in ("InvalidRequest", "JobNotFound", "LeaseLost", "JobFailed", "ServerUnavailable", "WaitTimeout"):
        assert getattr(gopher_node, name) is getattr(client, name)
        assert name in gopher_node.__all__
    assert issubclass(gopher_node.JobNotFound, errors.JobNotFound)
    said = "import sys, gopher_node; gopher_node.Retry; print('httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, check=True).stdout == b"False\n"
