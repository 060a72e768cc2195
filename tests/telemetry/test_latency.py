"""Latencies: buckets, quantiles, and what is sent of them."""

from __future__ import annotations

import random

import pytest

from gopher_node.telemetry.latency import BOUNDS, Latency


def latency_of(*seconds: float) -> Latency:
    latency = Latency()
    for each in seconds:
        latency.observe(each)
    return latency


def test_a_bound_belongs_to_its_bucket() -> None:
    """What took exactly a bound's time stayed within it, as a histogram's `le` has it."""
    latency = latency_of(0.0, 0.05, 0.0500001, 1.0, 1e9)
    assert latency.cumulated((0.05, 1.0)) == [(0.05, 2), (1.0, 4), (float("inf"), 5)]


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_a_quantile_is_off_by_a_bucket_at_most(q: float) -> None:
    """Of random times the quantile is near the true one."""
    chance = random.Random(4)
    times = sorted(chance.lognormvariate(-3, 1.5) for _ in range(5000))
    true = times[round(q * len(times)) - 1]
    assert latency_of(*times).quantile(q) == pytest.approx(true, rel=0.5)


def test_a_quantile_of_nothing_and_of_too_much() -> None:
    assert Latency().quantile(0.5) is None
    assert latency_of(1e9).quantile(0.5) == BOUNDS[-1]


def test_it_is_sent_and_added_up() -> None:
    """Sparse and back again it is the same; two together have all of both, and one without the other the rest."""
    first, second = latency_of(0.002, 0.3, 0.3), latency_of(5.0, 1e9)
    received = Latency()
    received.add(first.sparse(), first.sum)
    assert (received.counts, received.sum) == (first.counts, first.sum)
    both = first.copy()
    both.merge(second)
    assert both.count == 5
    assert both.since(first).counts == second.counts
    assert both.since(first).sum == pytest.approx(second.sum)


def test_what_a_newer_version_sends_is_left_out() -> None:
    received = Latency()
    received.add({"3": 2, "999": 7, "x": 1}, 1.0)
    assert received.count == 2
