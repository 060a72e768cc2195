"""How the node is: whether it can be reached, what it says of itself, and what becomes of its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from gopher_node import __version__
from gopher_node.cli import show
from gopher_node.cli.connect import Remote
from gopher_node.cli.doctor.finding import Finding, error, ok, warning
from gopher_node.cli.exits import UsageError
from gopher_node.cli.queues import age
from gopher_node.client import (
    ApiError,
    Client,
    HealthView,
    QueueView,
    ServerUnavailable,
    UnexpectedAnswer,
)
from gopher_node.client.wire import DEFAULT_URL
from gopher_node.errors import GopherError

MOST_TYPES = 10
SKEW, LARGE_SKEW = 1.0, 60.0

T = TypeVar("T")

# What a failed connection says, what that means, and what to do.
_REASONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("refused",),
        "Nothing listens at {url}.",
        "Start a node there with `gopher-node`, or mend the address; in a container, publish the port and let the "
        "node listen on 0.0.0.0.",
    ),
    (
        ("not known", "nodename nor servname", "name resolution", "No address associated", "getaddrinfo"),
        "The host name of {url} cannot be resolved.",
        "Look whether the name is right, and whether this machine's DNS knows it.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed"),
        "The certificate of {url} is not trusted here ({reason}).",
        "Name its authority with --ca or SSL_CERT_FILE; if it has expired or is for another name, renew it.",
    ),
    (
        ("WRONG_VERSION_NUMBER", "wrong version number", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "packet length"),
        "What listens at {url} does not speak TLS.",
        "Write the address with http://, or give the node a certificate (SERVER_TLS_CERT and SERVER_TLS_KEY).",
    ),
    (
        ("no connection within", "timed out", "unreachable", "No route"),
        "No way leads to {url} ({reason}).",
        "Look whether the host is up, and whether a firewall or a security group lets the port through.",
    ),
)


@dataclass(frozen=True, slots=True)
class Reached:
    url: str
    health: HealthView


def check_reached(remote: Remote, url: str | None) -> tuple[Reached | None, list[Finding]]:
    """What answers there, and how well its clock agrees with ours."""
    try:
        with remote.client(url=url or DEFAULT_URL, timeout=5.0, retries=0) as client:
            began = time.time()
            health = client.health()
            ended = time.time()
            return Reached(client.url, health), [
                ok("node", f"A node answers at {client.url}, in {(ended - began) * 1000:.0f} ms."),
                *_check_clock(health, began, ended),
                *_check_health(health),
            ]
    except UsageError as problem:
        return None, [error("node", str(problem), "Write the address like http://127.0.0.1:8080.")]
    except ServerUnavailable as problem:
        return None, [unreachable(problem)]
    except (UnexpectedAnswer, ApiError) as problem:
        advice = "Look whether host, port and base path (SERVER_BASE_PATH) are those of a gopher-node."
        return None, [error("node", str(problem), advice)]


def unreachable(problem: ServerUnavailable) -> Finding:
    for signs, meaning, advice in _REASONS:
        if any(sign in problem.reason for sign in signs):
            return error("node", meaning.format(url=problem.url, reason=problem.reason), advice)
    finding = f"No answer came from {problem.url} ({problem.reason})."
    if problem.url.startswith("http:"):
        return error(
            "node", finding, "If the node serves HTTPS, write the address with https://; else look at its log."
        )
    return error("node", finding, "Look at the log of the node, and of a proxy in between.")


def _check_clock(health: HealthView, began: float, ended: float) -> Iterator[Finding]:
    if health.timestamp is None:
        return
    there = health.timestamp.timestamp()
    # Its time was taken somewhere between; within that, nothing can be said.
    skew = there - began if there < began else max(0.0, there - ended)
    if abs(skew) < SKEW:
        yield ok("clock", "The node's clock and this one agree.")
        return
    make = error if abs(skew) >= LARGE_SKEW else warning
    yield make(
        "clock",
        f"The node's clock is {age(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this one. Jobs run by its time "
        "and not by yours, and signatures of callbacks may be refused.",
        "Let both machines keep time with NTP (`timedatectl set-ntp true`).",
    )


def _check_health(health: HealthView) -> Iterator[Finding]:
    bad = {name: said for name, said in health.checks.items() if said != "ok"}
    make = error if health.status == "unhealthy" else warning
    for name, said in bad.items():
        # What a node says of itself tells what to do as well.
        yield make("health", f"{name}: {said}", None)
    if not bad and health.status != "healthy":
        yield make("health", f"The node is {health.status}.", "Use a key with the scope read to see why.")
    elif not bad:
        yield ok("health", "The node is healthy.")


def check_node(remote: Remote, reached: Reached) -> tuple[str | None, list[Finding]]:
    """Which versions run, as far as the key lets us see; and how safe an accepted job is there."""
    with remote.client(url=reached.url, timeout=5.0, retries=0) as client:
        stats = _asked(client.stats)
        nodes = _asked(client.nodes) or ()
    if stats is None:
        return None, []
    running: dict[str, int] = {}
    for node in nodes:
        running[node.version] = running.get(node.version, 0) + 1
    running.pop("", None)
    running = running or {str(stats.node.get("version") or "unknown"): 1}
    if set(running) == {__version__}:
        return stats.durability, [ok("version", f"The command line and the node are both {__version__}.")]
    told = ", ".join(f"{version} ({count})" if len(running) > 1 else version for version, count in running.items())
    return stats.durability, [
        warning(
            "version",
            f"This command line is {__version__}, and what runs there is {told}.",
            "Finish the upgrade of the nodes, and use a command line of their version."
            if len(running) > 1
            else "Use the same version on both sides; what only one of them knows fails.",
        )
    ]


def check_jobs(remote: Remote, reached: Reached) -> Iterator[Finding]:
    with remote.client(url=reached.url, timeout=5.0, retries=0) as client:
        queues = _asked(client.queues)
        if queues is not None:
            yield from _unserved(queues)
        yield from _check_failed(client)


def _unserved(queues: tuple[QueueView, ...]) -> Iterator[Finding]:
    lonely = sorted((queue for queue in queues if queue.waiting and not queue.served_by), key=lambda q: -q.waiting)
    for queue in lonely[:MOST_TYPES]:
        since = f", the first for {age(queue.oldest_age)}" if queue.oldest_age is not None else ""
        yield warning(
            "queues",
            f"No node runs jobs of type {queue.type}, and {queue.waiting} wait{since}.",
            "Start a node that has the handler (--handlers) and takes the type (--types), or a worker that leases it "
            f"over HTTP; `gopher-node purge {queue.type}` deletes what nobody wants.",
        )
    if len(lonely) > MOST_TYPES:
        rest = len(lonely) - MOST_TYPES
        yield warning("queues", f"The same holds for {rest} more types.", "See `gopher-node queues`.")
    if not lonely:
        waiting = sum(queue.waiting for queue in queues)
        yield ok("queues", f"Each type that has jobs waiting is served; {waiting} wait in all.")


def _check_failed(client: Client) -> Iterator[Finding]:
    stats = _asked(client.stats)
    if stats is None:
        return
    failed = stats.jobs.get("failed", 0)
    if not failed:
        yield ok("failed jobs", "There are none.")
        return
    minutes = _asked(lambda: client.stats_history(60))
    recent = None if minutes is None else sum(minute.failed for minute in minutes)
    told = f"{show.count(failed, 'failed job')} waiting for somebody to decide"
    if recent == 0:
        yield ok("failed jobs", f"{told}, none of them new in the last hour.")
        return
    yield warning(
        "failed jobs",
        f"{told}." if recent is None else f"{told}, and {show.count(recent, 'failure')} in the last hour.",
        "See why with `gopher-node dead-letters`; then retry or delete them there.",
    )


def _asked(question: Callable[[], T]) -> T | None:
    """The answer; None where this node, or this key, does not give it. What is amiss then has been told already."""
    try:
        return question()
    except GopherError:
        return None
