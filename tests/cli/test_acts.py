"""What is done to one job or to all that match, against a real node; and when somebody is asked first."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.cli.test_program import on_terminal

ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"


def submitted(gopher: Any, queue: str, *arguments: str) -> str:
    ran = gopher("submit", "-t", queue, *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.json["job_id"]


def statuses(gopher: Any, queue: str) -> dict[str, str]:
    ran = gopher("jobs", "--type", queue, "--json")
    return {job["job_id"]: job["status"] for job in map(orjson.loads, ran.lines)}


@pytest.mark.process
def test_jobs_are_listed_by_every_filter(at_node: Any, queue: str) -> None:
    """Each filter reaches the node; what does not match is not shown."""
    wanted = submitted(at_node, queue, "--priority", "high", "--group", "acme", "--tag", queue, "--delay", "1h")
    for others in (["--priority", "low"], ["--group", "other"], []):
        submitted(at_node, queue, *others)

    for filters in (
        ["--priority", "high"],
        ["--group", "acme"],
        ["--tag", queue],
        ["--status", "scheduled"],
        ["--status", "scheduled,failed", "--created-after", "2020-01-01", "--created-before", "2100-01-01T00:00Z"],
    ):
        ran = at_node("jobs", "list", "--type", queue, *filters)
        assert [line.split()[0] for line in ran.lines] == ["ID", wanted], filters
    assert len(at_node("jobs", "--type", queue).lines) == 5
    assert at_node("jobs", "--type", queue, "--created-after", "2100-01-01").out == "No such jobs.\n"


@pytest.mark.process
def test_a_long_list_says_that_there_is_more(at_node: Any, queue: str) -> None:
    """Only as many as were asked for are shown."""
    for _ in range(3):
        submitted(at_node, queue)

    ran = at_node("jobs", "list", "--type", queue, "--limit", "2", "--json")

    assert len(ran.lines) == 2
    assert ran.err == "There are more; --limit 20 shows more of them.\n"


@pytest.mark.process
def test_all_that_match_are_cancelled_retried_and_deleted(at_node: Any, queue: str) -> None:
    """A filter says which; the others stay as they are, and the answer says how many."""
    first, second = (submitted(at_node, queue, "--tag", queue) for _ in range(2))
    other = submitted(at_node, queue)

    assert at_node("jobs", "cancel", "--tag", queue).out == "2 jobs cancelled.\n"
    assert statuses(at_node, queue) == {first: "cancelled", second: "cancelled", other: "enqueued"}

    assert at_node("retry", "--type", queue, "--status", "cancelled", "--json").json == {"retried": 2}
    assert set(statuses(at_node, queue).values()) == {"enqueued"}

    assert at_node("delete", "--type", queue, "--yes").out == "3 jobs deleted.\n"
    assert statuses(at_node, queue) == {}


@pytest.mark.process
def test_scheduled_jobs_are_run_now(at_node: Any, queue: str) -> None:
    """By id or by filter; one that is named and waits already stays."""
    first, second = (submitted(at_node, queue, "--delay", "1h") for _ in range(2))

    assert at_node("jobs", "run-now", first).out == f"{first}  {queue}  enqueued\n"
    assert at_node("jobs", "run-now", "--type", queue).out == "1 job will run now.\n"
    assert statuses(at_node, queue) == {first: "enqueued", second: "enqueued"}


@pytest.mark.process
def test_a_waiting_job_is_edited(at_node: Any, queue: str) -> None:
    """Its priority and its time; the line says what holds now."""
    job_id = submitted(at_node, queue)

    assert at_node("jobs", "edit", job_id, "--priority", "urgent").out == (
        f"{job_id}  {queue}  enqueued, urgent priority\n"
    )
    ran = at_node("jobs", "edit", job_id, "--at", "2026-11-30T12:00:00Z", "--json")
    due = at_node("jobs", "edit", job_id, "--delay", "2h", "--json").json
    assert ran.json["job_id"] == job_id
    assert (due["status"], due["priority"]) == ("scheduled", "urgent")
    assert "scheduled, urgent priority, due 20" in at_node("jobs", "edit", job_id, "--delay", "1h").out


@pytest.mark.process
def test_a_job_is_waited_for(at_node: Any, queue: str) -> None:
    """As with submit --wait: its result is printed, and its end is the exit code."""
    done = submitted(at_node, "echo", "-p", '{"a": 1}')
    broken = submitted(at_node, "broken")

    ran = at_node("jobs", "wait", done, "--timeout", "30s")
    assert (ran.code, orjson.loads(ran.out)) == (0, {"a": 1})
    ran = at_node("jobs", "wait", broken)
    assert (ran.code, ran.out) == (1, "")
    assert "failed: broken-part" in ran.err
    assert at_node("jobs", "wait", submitted(at_node, queue), "--timeout", "0.05s").code == 1
    assert at_node("jobs", "wait", ID).code == 3


@pytest.mark.process
def test_a_job_is_followed_to_its_end(at_node: Any) -> None:
    """Each change is a line, the last one its end; the exit code says which."""
    job_id = submitted(at_node, "broken", "--delay", "0.3s")

    ran = at_node("jobs", "events", job_id)

    assert ran.code == 1
    words = [line.split()[1] for line in ran.lines]
    assert (words[0], words[-1]) == ("scheduled", "failed")
    assert ran.lines[-1].endswith("broken-part: The part is broken.")

    ran = at_node("jobs", "events", submitted(at_node, "echo"), "--json")
    assert ran.code == 0
    assert orjson.loads(ran.lines[-1])["status"] == "completed"
    assert at_node("jobs", "events", ID).code == 3


@pytest.mark.process
def test_an_id_of_ones_own_is_taken_once(at_node: Any, queue: str) -> None:
    """A second job with the same id is refused, and a submit with the same idempotency key is the first one again."""
    own = "11111111-2222-4333-8444-" + queue[-12:]
    assert submitted(at_node, queue, "--id", own) == own

    ran = at_node("submit", "-t", queue, "--id", own)
    assert ran.code == 1
    assert "Nothing was stored" in ran.err

    key = ["--idempotency-key", queue]
    assert submitted(at_node, queue, *key) == submitted(at_node, queue, *key)
    assert len(statuses(at_node, queue)) == 2


@pytest.mark.process
def test_a_callback_must_be_allowed(at_node: Any, queue: str) -> None:
    """The node's refusal names the member."""
    ran = at_node("submit", "-t", queue, "--callback-url", "http://127.0.0.1/x")

    assert ran.code == 1
    assert "/callback_url" in ran.err


@pytest.mark.process
def test_a_dead_letter_whose_name_is_taken_is_not_retried(at_node: Any) -> None:
    """That is no reason to call it none."""
    group = f"g-{submitted(at_node, 'echo')[:8]}"
    told = ("submit", "-t", "buggy", "--group", group, "--unique-key", group, "--json")
    dead = at_node(*told, "--wait", "30s").json["job_id"]
    waiting = at_node(*told, "--delay", "1h").json["job_id"]

    ran = at_node("dead-letters", "retry", dead)
    assert (ran.code, waiting != dead) == (3, True)
    assert ran.err == "gopher-node: 1 of these ids is no dead letter's, or another job bears the unique key.\n"
    at_node("delete", dead, waiting)


def test_dead_letters_are_shown_retried_and_deleted(at_node: Any) -> None:
    """With the error of each run; by id or by filter."""
    group = f"g-{submitted(at_node, 'echo')[:8]}"
    first, second, third = (
        at_node("submit", "-t", "buggy", "--group", group, "--wait", "30s", "--json").json["job_id"] for _ in range(3)
    )

    ran = at_node("dead-letters", "--group", group)
    assert {line.split()[0] for line in ran.lines[1:]} == {first, second, third}
    ran = at_node("dead-letters", "show", first)
    assert "run 1  error" in ran.out
    assert ran.out.count("RuntimeError: a mistake") >= 1
    assert "  Traceback" in ran.out or "\nTraceback" in ran.out
    assert at_node("dead-letters", "show", first, "--json").json["job_id"] == first

    assert at_node("dead-letters", "delete", first).out == "1 failed job deleted.\n"
    ran = at_node("dead-letters", "delete", first, second)
    assert (ran.code, ran.out) == (3, "1 failed job deleted.\n")
    assert ran.err == "gopher-node: 1 of these ids is no dead letter's.\n"
    assert at_node("dead-letters", "retry", "--group", group, "--json").json == {"retried": 1}
    assert at_node("jobs", "wait", third).code == 1
    assert at_node("dead-letters", "delete", "--group", group).out == "1 failed job deleted.\n"


@pytest.mark.process
def test_what_is_no_dead_letter_is_not_shown_as_one(at_node: Any, queue: str) -> None:
    """A job that has not failed is found with `get`, and the message says so."""
    job_id = submitted(at_node, queue)

    ran = at_node("dead-letters", "show", job_id)

    assert ran.code == 3
    assert f"Job {job_id} is enqueued and no dead letter; see `gopher-node get {job_id}`." in ran.err


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "question"),
    [
        (
            "jobs cancel --type email --status scheduled,enqueued",
            "Cancel all scheduled or enqueued jobs of type email at",
        ),
        ("delete --all", "Delete all jobs at"),
        ("jobs retry --group acme --priority high", "Retry all jobs of priority high of group acme at"),
        ("dead-letters delete --tag x", "Delete all dead letters with the tag x at"),
        ("dead-letters retry --all", "Retry all dead letters at"),
    ],
)
def test_many_are_asked_for_on_a_terminal(told: Any, command: str, question: str) -> None:
    """The question says what is meant; a no sends nothing, and --yes asks nothing."""
    told.answer({"cancelled": 1, "deleted": 1, "retried": 1, "next_cursor": None})

    code, screen = on_terminal(*command.split(), f"--url={told.url}", typed=b"n\n")
    assert code == 1
    assert f"{question} {told.url}?" in screen
    assert "Nothing was changed." in screen
    assert told.asked == []

    code, screen = on_terminal(*command.split(), "--yes", f"--url={told.url}")
    assert code == 0
    assert "[y/N]" not in screen
    assert len(told.asked) == 1


def test_retry_all_takes_yes(gopher: Any, told: Any) -> None:
    """As the other acts on many do."""
    told.answer({"retried": 0, "next_cursor": None})

    assert gopher("retry-all", "--yes", "--url", told.url).code == 0
