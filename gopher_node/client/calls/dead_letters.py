"""Questions about the dead letters: the failed jobs that wait for an operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, TypedDict, Unpack

from gopher_node.client.calls.call import API, Call, encode, refuse_unknown, strings
from gopher_node.client.calls.jobs import LONGEST_PART, Listing, PartOfAct, filter_params, reader_of_part
from gopher_node.client.views import JobView, Page
from gopher_node.job import Priority

MOST_IDS = 1000


class DeadLetterFilter(TypedDict, total=False):
    """Which dead letters are meant, beside their type: those to which all of these apply."""

    priority: Priority | str | int | None
    group: str | None
    tag: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None


_FILTERS = frozenset(DeadLetterFilter.__optional_keys__ | {"type"})


def dead_letters(
    type: str | None = None, limit: int | None = None, **filters: Unpack[DeadLetterFilter]
) -> Listing[JobView]:
    given: dict[str, Any] = dict(filters)
    refuse_unknown(given, _FILTERS, "Dead letters cannot be found by")
    return Listing(f"{API}/dead-letters", {"type": type, **given}, limit, Page.read)


def retry(filters: Mapping[str, Any], job_ids: Iterable[str] | None) -> Iterator[Call[PartOfAct]]:
    """Those that match, or those with these ids; all of them where nothing is said."""
    return _act(Call(method="POST", path=f"{API}/dead-letters/retry", read=reader_of_part("retried")), filters, job_ids)


def delete(filters: Mapping[str, Any], job_ids: Iterable[str] | None, *, all: bool) -> Iterator[Call[PartOfAct]]:
    """Those that match, those with these ids, or all of them if that is said."""
    call = Call(method="DELETE", path=f"{API}/dead-letters", read=reader_of_part("deleted"))
    if job_ids is None and not filter_params(filters, _FILTERS):
        if not all:
            raise ValueError("Say which dead letters are meant by a filter or job_ids, or all=True for every one.")
        call = replace(call, params=(("all", "true"),))
    return _act(call, filters, job_ids)


def _act(call: Call[PartOfAct], filters: Mapping[str, Any], job_ids: Iterable[str] | None) -> Iterator[Call[PartOfAct]]:
    """As many calls as that needs."""
    call = replace(call, wait=LONGEST_PART, params=(*call.params, *filter_params(filters, _FILTERS)))
    if job_ids is None:
        return iter([call])
    if call.params:
        raise ValueError("A filter and job_ids cannot both say which dead letters are meant.")
    return (replace(call, body=encode({"job_ids": ids})) for ids in _parts(strings("job_ids", job_ids)))


def _parts(ids: Sequence[Any]) -> Iterator[list[str]]:
    rest = iter(ids)
    while part := [str(each) for each in islice(rest, MOST_IDS)]:
        yield part
