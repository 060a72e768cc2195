"""The commands about jobs, against a real node with the embedded store."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.process


def submitted(gopher: Any, *arguments: str) -> dict[str, Any]:
    ran = gopher("submit", *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.json


def ended(gopher: Any, *arguments: str) -> dict[str, Any]:
    """A job that was waited for, however it ended."""
    return gopher("submit", *arguments, "--wait", "30s", "--json").json


def test_a_submit_prints_one_line(at_node: Any, queue: str) -> None:
    """Id, type and state, which is enough to go on with."""
    ran = at_node("submit", "-t", queue)

    job_id, kind, status = ran.out.split()
    assert ran.code == 0
    assert uuid.UUID(job_id)
    assert (kind, status) == (queue, "enqueued")


def test_every_option_reaches_the_job(at_node: Any, queue: str) -> None:
    """What is given on the command line is what the node stores."""
    job = submitted(
        at_node,
        *("-t", queue, "-p", '{"n": 1}', "--priority", "high", "-r", "7", "--delay", "1h30m", "--group", "acme"),
        *("--tag", "a", "--tag", "b", "--timeout", "90s", "--retention", "2d"),
    )

    assert job["payload"] == {"n": 1}
    assert (job["priority"], job["max_retries"], job["group"], job["tags"]) == ("high", 7, "acme", ["a", "b"])
    assert (job["timeout"], job["retention"]) == (90.0, 172800.0)
    assert job["status"] == "scheduled"


def test_uniqueness_expiry_and_retries_reach_the_job(at_node: Any, queue: str) -> None:
    """A twin shows the job that is there; `--retry` is as it is sent, and its log is empty."""
    said = ("-t", queue, "--unique-key", "a", "--unique-until", "10m", "--ttl", "1h", "--retry", '{"strategy":"fixed"}')
    job = submitted(at_node, *said)
    twin = submitted(at_node, *said)
    told = at_node("submit", *said)
    refused = at_node("submit", "-t", queue, "--unique-key", "a", "--on-duplicate", "reject")
    log = at_node("jobs", "log", job["job_id"])

    assert (job["unique_key"], job["retry"]["strategy"], job["expires_at"] > job["created_at"]) == ("a", "fixed", True)
    assert twin["job_id"] == job["job_id"]
    assert (refused.code, "unique key" in refused.err) == (1, True)
    assert "nothing was stored" in told.err
    assert (log.code, log.out) == (0, "")
    assert "--retry" in at_node("submit", "-t", queue, "--retry", "fixed").err


@pytest.fixture
def five_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is five hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("five_hours_east")
@pytest.mark.parametrize(
    ("at", "execute_at"),
    [
        ("{day}T18:00:00Z", "{day}T18:00:00.000Z"),
        ("{day}T18:00:00+02:00", "{day}T16:00:00.000Z"),
        ("{day}T18:00", "{day}T13:00:00.000Z"),
        ("{day} 05:00", "{day}T00:00:00.000Z"),
    ],
)
def test_a_time_without_a_zone_is_the_users_own(at_node: Any, queue: str, at: str, execute_at: str) -> None:
    """As with `at` and `cron`, a time on the command line is that of this machine unless it says otherwise."""
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"

    job = submitted(at_node, "-t", queue, "--at", at.format(day=day))

    assert job["execute_at"] == execute_at.format(day=day)


def test_a_payload_comes_from_a_file_or_the_standard_input(at_node: Any, queue: str, tmp_path: Path) -> None:
    """@FILE and - are there for what is too long to type."""
    (tmp_path / "mail.json").write_bytes(b'{"to": "ada@example.org"}\n')

    assert submitted(at_node, "-t", queue, "-p", "@mail.json")["payload"] == {"to": "ada@example.org"}
    ran = at_node("submit", "-t", queue, "-p", "-", "--json", stdin=b'{"from": "stdin"}')
    assert ran.json["payload"] == {"from": "stdin"}


def test_a_payload_is_sent_as_it_was_written(at_node: Any, queue: str) -> None:
    """A number that cannot be kept is refused by the node, and not changed on the way to it."""
    ran = at_node("submit", "-t", queue, "-p", '{"n": 123456789012345678901234567890}')

    assert ran.code == 1
    assert "64 bits" in ran.err


def test_waiting_prints_the_result(at_node: Any) -> None:
    """The result alone is on the standard output, so that it can be piped."""
    ran = at_node("submit", "-t", "echo", "-p", '{"sum": [1, 2]}', "--wait", "30s")

    assert ran.code == 0
    assert orjson.loads(ran.out) == {"sum": [1, 2]}
    assert ran.err.startswith("Job ")
    assert ran.err.endswith(" completed.\n")


def test_a_job_that_fails_ends_with_1(at_node: Any) -> None:
    """The error is told with what can be done about it."""
    ran = at_node("submit", "-t", "broken", "--wait", "30s")

    assert (ran.code, ran.out) == (1, "")
    assert "failed: broken-part: The part is broken. See each run with `gopher-node get " in ran.err
    assert "run it again with `gopher-node retry " in ran.err


def test_a_job_that_fails_is_json_when_that_is_asked_for(at_node: Any) -> None:
    """With --json the job is on the standard output however it ended."""
    ran = at_node("submit", "-t", "broken", "--wait", "30s", "--json")

    assert ran.code == 1
    assert ran.json["status"] == "failed"
    assert ran.json["error"]["code"] == "broken-part"


def test_waiting_may_be_in_vain(at_node: Any, queue: str) -> None:
    """When the wait is over the job goes on, and the message says how to look again."""
    ran = at_node("submit", "-t", queue, "--wait", "0.05s")

    assert (ran.code, ran.out) == (1, "")
    assert "is still enqueued after 0.05 s, and goes on. Look again with `gopher-node get " in ran.err


def test_a_refused_submit_says_what_is_wrong_where(at_node: Any) -> None:
    """The node's faults are told one by one."""
    ran = at_node("submit", "-t", "no type", "--group", "{}")

    assert (ran.code, ran.out) == (1, "")
    assert "/type" in ran.err
    assert "/group" in ran.err


def test_get_shows_a_job(at_node: Any) -> None:
    """Everything about a job is a line of its own."""
    job_id = ended(at_node, "-t", "echo", "-p", '{"a": "ä"}', "--tag", "x", "--group", "acme")["job_id"]

    ran = at_node("get", job_id)

    shown = dict(line.split(None, 1) for line in ran.lines)
    assert ran.code == 0
    assert shown["Job"] == job_id
    assert (shown["Status"], shown["Priority"], shown["Group"], shown["Tags"]) == ("completed", "normal", "acme", "x")
    assert shown["Payload"] == shown["Result"] == '{"a":"ä"}'
    assert shown["Runs"].startswith("1 (errors 0, crashes 0; retries allowed 3)")
    assert "took 0." in shown["Finished"]


def test_get_shows_how_each_run_ended(at_node: Any) -> None:
    """A failed job comes with its attempts and the last one's traceback."""
    job_id = ended(at_node, "-t", "buggy")["job_id"]

    out = at_node("get", job_id).out

    assert "RUN  OUTCOME" in out
    assert "RuntimeError" in out
    assert "Traceback" in out
    assert "clijobs.py" in out


def test_get_as_json_is_the_nodes_own(at_node: Any, queue: str) -> None:
    """--json has every field that the API has."""
    job = submitted(at_node, "-t", queue)

    assert at_node("get", job["job_id"], "--json").json == job | {"durability": "fsync"}


@pytest.mark.parametrize("command", ["get", "cancel", "delete", "retry"])
@pytest.mark.parametrize("job_id", ["7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001", "nonsense", "..", "\x1b[31m"])
def test_an_unknown_job_ends_with_3(at_node: Any, command: str, job_id: str) -> None:
    """Whatever is no job's id is answered alike."""
    ran = at_node(command, job_id)

    assert (ran.code, ran.out) == (3, "")
    assert "No job has th" in ran.err
    assert "\x1b" not in ran.err


def test_a_waiting_job_is_cancelled(at_node: Any, queue: str) -> None:
    """The line says what became of it; to cancel it again does no harm."""
    job_id = submitted(at_node, "-t", queue)["job_id"]

    assert at_node("cancel", job_id).out == f"{job_id}  {queue}  cancelled\n"
    assert at_node("cancel", job_id).code == 0


def test_a_running_job_is_asked_to_stop(at_node: Any, tmp_path: Path) -> None:
    """Its handler is cancelled, and then the job is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    job_id = submitted(at_node, "-t", "endless", "-p", orjson.dumps({"pipe": str(pipe)}).decode())["job_id"]
    assert pipe.read_text() == "begun"

    ran = at_node("cancel", job_id)

    assert ran.code == 0
    assert ran.out in (f"{job_id}  endless  is asked to stop\n", f"{job_id}  endless  cancelled\n")


def test_what_the_state_forbids_ends_with_1(at_node: Any, queue: str) -> None:
    """A waiting job cannot be retried, and a completed one not be cancelled."""
    waiting = submitted(at_node, "-t", queue)["job_id"]
    completed = ended(at_node, "-t", "echo")["job_id"]

    assert at_node("retry", waiting).code == 1
    ran = at_node("cancel", completed)
    assert ran.code == 1
    assert "completed" in ran.err


def test_a_deleted_job_is_gone(at_node: Any, queue: str) -> None:
    """Delete says so, and from then on nobody finds the job."""
    job_id = submitted(at_node, "-t", queue)["job_id"]

    assert at_node("delete", job_id).out == f"{job_id}  deleted\n"
    assert at_node("get", job_id).code == 3


def test_of_several_jobs_each_is_tried(at_node: Any, queue: str) -> None:
    """One that is refused is named and does not stop the others; its code is the command's."""
    first, second = (submitted(at_node, "-t", queue)["job_id"] for _ in range(2))

    ran = at_node("cancel", first, "nonsense", second)

    assert ran.code == 3
    assert [line.split()[0] for line in ran.lines] == [first, second]
    assert ran.err.startswith("gopher-node: nonsense: No job has this id")


def test_failed_jobs_are_listed_and_retried(at_node: Any) -> None:
    """list-failed shows why, retry runs one again, retry-all all of a type."""
    ids = {ended(at_node, "-t", "broken", "-p", '{"reason": "worn"}')["job_id"] for _ in range(3)}
    one = min(ids)

    listed = at_node("list-failed", "--type", "broken", "--limit", "500")
    assert listed.code == 0
    assert listed.lines[0].split() == ["ID", "TYPE", "FAILED", "AT", "RUNS", "ERROR"]
    assert ids <= {line.split()[0] for line in listed.lines}
    assert "broken-part: worn" in listed.out

    # A worker may have it before the node answers.
    assert at_node("retry", one).out.startswith(f"{one}  broken  ")
    assert "jobs will run again." in at_node("retry-all", "--type", "broken").out


def test_failed_jobs_as_json_are_lines(at_node: Any) -> None:
    """One document on each line, as jq and a shell's loop like it; more than was asked for is announced."""
    for _ in range(2):
        ended(at_node, "-t", "buggy")

    ran = at_node("list-failed", "--type", "buggy", "--limit", "1", "--json")

    assert [orjson.loads(line)["type"] for line in ran.lines] == ["buggy"]
    assert ran.err == "There are more; --limit 10 shows more of them.\n"


def test_an_empty_list_says_so(at_node: Any, queue: str) -> None:
    """Nothing failed is good news, and no empty table."""
    assert at_node("list-failed", "--type", queue).out == "No failed jobs.\n"
    assert at_node("list-failed", "--type", queue, "--json").out == ""
    assert at_node("retry-all", "--type", queue, "--json").json == {"retried": 0}


def test_a_type_that_no_node_runs_is_told(at_node: Any, queue: str) -> None:
    """On stderr, so that a pipe does not see it; of a type that is served nothing is said."""
    for arguments in ([], ["--json"], ["--wait", "0.05s"]):
        ran = at_node("submit", "-t", queue, *arguments)
        assert f"gopher-node: no node runs {queue}; the job waits until one does" in ran.err
    assert at_node("submit", "-t", "echo").err == ""


def test_a_submit_does_not_fail_for_want_of_that(gopher: Any, told: Any) -> None:
    """A key without the scope read, or an older node."""
    told.answer({"job_id": "1", "type": "a", "status": "enqueued"}, 201)
    told.refuse(403, "forbidden", scope="read")

    ran = gopher("submit", "-t", "a", "--url", told.url)

    assert (ran.code, ran.out, ran.err) == (0, "1  a  enqueued\n", "")


def test_an_error_of_several_lines_stands_on_one(gopher: Any, told: Any) -> None:
    """What a wait says is a line."""
    told.paths = {"/api/v1/jobs/1": {"job_id": "1", "type": "a", "status": "failed", "error": {"message": "a\nb\n"}}}

    ran = gopher("jobs", "wait", "1", "--url", told.url)

    assert ran.err.startswith("gopher-node: job 1 failed: a b. See")
    assert ran.err.count("\n") == 1
