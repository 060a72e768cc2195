"""The commands about recurring jobs, against a real node."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.process
def test_the_life_of_a_recurring_job(at_node: Any, queue: str) -> None:
    """Made, shown, listed, changed, paused, resumed, triggered and deleted; each says what it has done."""
    made = at_node(
        *("recurring", "create", queue, "-t", queue, "-p", '{"n": 1}'),
        *("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--overlap", "skip"),
    )
    assert made.code == 0, made.err
    assert ["When", "At 02:30 every day (Europe/Berlin)"] in [line.split(maxsplit=1) for line in made.lines]
    assert at_node("recurring", "show", queue).out == made.out

    row = next(line for line in at_node("recurring").lines if line.startswith(queue))
    assert "30 2 * * *" in row

    edited = at_node("recurring", "edit", queue, "--every", "90m", "--json").json
    assert (edited["every"], edited["cron_expression"], edited["overlap"]) == (5400.0, None, "skip")
    assert at_node("recurring", "pause", queue).out == f"{queue}  paused\n"
    assert "paused" in next(line for line in at_node("recurring", "list").lines if line.startswith(queue))
    assert at_node("recurring", "resume", queue).out.startswith(f"{queue}  fires next at 20")
    job = at_node("recurring", "trigger", queue, "--json").json
    assert (job["recurring"], job["payload"], job["status"]) == (queue, {"n": 1}, "enqueued")

    assert at_node("recurring", "delete", queue, "--yes").out == f"{queue}  deleted\n"
    gone = at_node("recurring", "show", queue)
    assert (gone.code, "recurring job" in gone.err) == (3, True)


@pytest.mark.process
def test_a_preview_says_it_in_words(at_node: Any) -> None:
    ran = at_node("recurring", "preview", "0 12 * * *", "--timezone", "America/New_York", "-n", "2")

    assert ran.lines[0] == "At 12:00 every day (America/New_York)"
    assert [line.split()[2] for line in ran.lines[1:]] == ["12:00:00", "12:00:00"]
    wrong = at_node("recurring", "preview", "0 12 * *")
    assert wrong.code != 0
    assert "must be five fields" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "a", "-t", "b"], "--cron"),
        (["create", "a", "-t", "b", "--cron", "@daily", "--every", "1h"], "give one of them"),
        (["create", "a", "-t", "b", "--every", "often"], "--every 'often'"),
        (
            ["create", "a", "-t", "b", "--every", "1h", "--missed", "some"],
            "--missed 'some' must be skip or once or all",
        ),
        (["edit", "a"], "what is to change"),
        (["preview"], "Give a cron expression"),
    ],
)
def test_what_makes_no_sense_is_refused_here(gopher: Any, told: Any, arguments: list[str], words: str) -> None:
    """The node is not asked."""
    ran = gopher("recurring", *arguments, "--url", told.url)

    assert ran.code == 2
    assert words in ran.err
    assert told.asked == []
