"""Reading bodies: whatever comes in, the value is exact or the body is refused, and nothing else happens."""

import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gopher_node.api.answers.problems import Problem
from gopher_node.api.requests.bodies import MAX_DEPTH, parse_json
from gopher_node.api.requests.models import read_submission
from gopher_node.handlers import Registry
from gopher_node.job import NewJob

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.integers(-(2**66), 2**66) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=10,
)
FIELDS = ["type", "queue", "payload", "priority", "retries", "max_retries", "execute_at", "delay", "group", "timeout"]
FIELDS += ["retention", "tags", "unknown"]
LIKELY = st.sampled_from(["mail", "high", "3", 2, 0.5, "5m", "2027-01-31T08:00:00Z", ["red"], "", {}])


def fits(value):
    """Whether every integer has at most 64 bits."""
    if isinstance(value, list):
        return all(map(fits, value))
    if isinstance(value, dict):
        return all(map(fits, value.values()))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@given(VALUES, st.booleans())
def test_numbers_are_exact_or_refused(value, ascii):
    """A body is read without loss, or refused if it has an integer beyond 64 bits."""
    body = json.dumps(value, ensure_ascii=ascii).encode()

    if fits(value):
        assert parse_json(body) == value
    else:
        with pytest.raises(Problem) as refused:
            parse_json(body)
        assert refused.value.name == "number-out-of-range"


@given(st.integers(0, 3 * MAX_DEPTH), st.booleans())
def test_the_depth_is_exact(depth, objects):
    """As deep as the limit is accepted, and one deeper is not."""
    opening, closing = (b'{"a":', b"}") if objects else (b"[", b"]")
    body = opening * depth + b"1" + closing * depth

    if depth <= MAX_DEPTH:
        assert parse_json(body) == orjson.loads(body)
    else:
        with pytest.raises(Problem) as refused:
            parse_json(body)
        assert refused.value.name == "json-too-deep"


@given(st.binary())
def test_any_bytes_are_json_or_a_problem(body):
    """No bytes lead to anything but a value or a refusal."""
    with contextlib.suppress(Problem):
        parse_json(body)


@given(VALUES | st.dictionaries(st.sampled_from(FIELDS), LIKELY | VALUES, max_size=5))
def test_any_document_is_a_job_or_has_faults(document):
    """No document leads to anything but a job or a list of what is wrong with it."""
    if not fits(document):
        return

    job = read_submission(document, Registry(), 3)

    if isinstance(job, NewJob):
        assert orjson.loads(job.payload) == (document.get("payload") if document.get("payload") is not None else {})
    else:
        assert job
        assert all(fault.keys() == {"pointer", "code", "detail"} for fault in job)
