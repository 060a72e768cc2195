"""When a job is tried again, and after which errors."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gopher_node.job import JobOptions, RetryPolicy, Unique, names_of_class


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(strategy="fixed", base=10), [10, 10, 10]),
        (RetryPolicy(strategy="linear", base=10, cap=25), [10, 20, 25]),
        (RetryPolicy(strategy="list", delays=[1, 5]), [1, 5, 5]),
        (RetryPolicy(base=1, factor=3, jitter=False), [1, 3, 9]),
    ],
)
def test_delays(policy: RetryPolicy, delays: list[float]) -> None:
    assert [policy.delay(n) for n in (1, 2, 3)] == delays


def test_jitter_is_full() -> None:
    """From nothing to the whole; exponential policies have it unless they say otherwise, and others if they do."""
    for policy in (RetryPolicy(base=8, cap=8), RetryPolicy(strategy="fixed", base=8, jitter=True)):
        found = [policy.delay(1, random.Random(n)) for n in range(200)]
        assert (min(found) < 1, max(found) > 7, max(found) <= 8) == (True, True, True)
    assert RetryPolicy().delay(5000) <= 600


def test_names_of_errors() -> None:
    """A class means those derived from it; a name may have its module or not."""
    error = names_of_class(type("Mine", (ConnectionResetError,), {}))

    for name in ("ConnectionResetError", "OSError", "builtins.OSError", OSError, f"{__name__}.Mine"):
        assert RetryPolicy(only=[name]).retries(error)
        assert not RetryPolicy(never=[name]).retries(error)
    assert not RetryPolicy(only=["ValueError"]).retries(error)
    assert RetryPolicy(never=["ValueError"]).retries(error)


@pytest.mark.parametrize(
    "bad",
    [{"strategy": "list"}, {"delays": [1]}, {"base": -1}, {"factor": 0}, {"strategy": "x"}, {"only": "ValueError"}],
)
def test_policies_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"retry policy|strategy|factor|lists"):
        RetryPolicy(**bad)


def test_options_are_read_as_they_were_written() -> None:
    """Also by an older version, which leaves out what it does not know."""
    policy = RetryPolicy(strategy="list", delays=[1, 2], only=[OSError])
    options = JobOptions(unique=Unique(key="a"), retry=policy, ttl_ms=5, depends_on=("x",))

    assert JobOptions.decode(options.encode()) == options
    newer = options.encode().replace(b'"key"', b'"new":1,"key"').replace(b'"base"', b'"newer":2,"base"')
    assert JobOptions.decode(newer) == options
