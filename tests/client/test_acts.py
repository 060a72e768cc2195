"""Acts on many jobs at once: which jobs are meant, and how an act goes on from cursor to cursor."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.client import calls

ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"


@pytest.mark.parametrize("method", ["cancel_many", "retry_many", "run_now_many", "delete_many"])
async def test_every_job_is_meant_only_if_that_is_said(stage: Any, connect: Any, method: str) -> None:
    """Forgotten filters change nothing; nor does one whose value is None."""
    client = connect(stage.url)

    with pytest.raises(ValueError, match="all=True"):
        await getattr(client, method)()
    with pytest.raises(ValueError, match="all=True"):
        await getattr(client, method)(type=None)
    with pytest.raises(TypeError, match="typ"):
        await getattr(client, method)(typ="email")
    assert stage.asked == []


async def test_an_act_goes_on_to_its_end(stage: Any, connect: Any) -> None:
    """The node works for a while and hands back a cursor; the counts are added up."""
    stage.answer({"deleted": 200, "next_cursor": "x"})
    stage.answer({"deleted": 0, "next_cursor": "y"})
    stage.answer({"deleted": 7, "next_cursor": None})

    assert await connect(stage.url).delete_many(type="email", status="failed") == 207
    assert [each.query for each in stage.asked] == [
        {"type": "email", "status": "failed"},
        {"type": "email", "status": "failed", "cursor": "x"},
        {"type": "email", "status": "failed", "cursor": "y"},
    ]


async def test_many_ids_are_several_calls(stage: Any, connect: Any) -> None:
    """The node takes a thousand ids at once."""
    stage.answer({"retried": 1000})
    stage.answer({"retried": 4})

    assert await connect(stage.url).retry_all(job_ids=[f"job-{n}" for n in range(1005)]) == 1004
    assert [len(each.body["job_ids"]) for each in stage.asked] == [1000, 5]


async def test_no_ids_are_no_call(stage: Any, connect: Any) -> None:
    """An empty list means none, and not all."""
    client = connect(stage.url)

    assert await client.retry_all(job_ids=[]) == 0
    assert await client.delete_dead_letters(job_ids=[]) == 0
    assert stage.asked == []


async def test_dead_letters_are_deleted_only_if_it_is_said_which(stage: Any, connect: Any) -> None:
    """Deleting all of them has to be meant."""
    client = connect(stage.url)

    with pytest.raises(ValueError, match="all=True"):
        await client.delete_dead_letters()
    with pytest.raises(ValueError, match="cannot both"):
        await client.delete_dead_letters("email", job_ids=["a"])
    with pytest.raises(TypeError, match="list of strings"):
        await client.delete_dead_letters(job_ids="a")
    with pytest.raises(TypeError, match="statuss"):
        await client.delete_dead_letters(statuss="failed")
    assert stage.asked == []


async def test_all_dead_letters_are_deleted_if_that_is_said(stage: Any, connect: Any) -> None:
    """What narrows it down takes the word's place."""
    client = connect(stage.url)
    stage.answer({"deleted": 3, "next_cursor": None})

    await client.delete_dead_letters(all=True)
    await client.delete_dead_letters("email", group="acme", all=True)

    assert [each.query for each in stage.asked] == [{"all": "true"}, {"type": "email", "group": "acme"}]


def test_dead_letters_are_not_found_by_status() -> None:
    """They are all failed."""
    with pytest.raises(TypeError, match="status"):
        calls.dead_letters.dead_letters(status="failed")  # type: ignore[call-arg]


async def test_an_edit_changes_something(stage: Any, connect: Any) -> None:
    """An edit that says nothing is a slip."""
    with pytest.raises(ValueError, match="priority, delay or execute_at"):
        await connect(stage.url).edit(ID)
    assert stage.asked == []
