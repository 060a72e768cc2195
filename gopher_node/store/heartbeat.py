"""
The main program of the child process that renews a node's session: nothing that its parent does can hold it up.

It is started by its path, so that it imports neither the package nor what that imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

RENEWING, GONE, FAILED = "renewing", "gone", "failed"
"""What it says, a line each: that it has renewed, each time; that the session ended; what failed."""


def order(url: str, namespace: str, session: str, lease: float) -> bytes:
    """
    What the parent has to write to the child's standard input, and no argument, for the URL may hold a password.

    `lease` is in seconds. As long as the pipe stays open the child renews.
    """
    from gopher_node.store.scripts import source

    prefix = "{" + namespace + "}:"
    content = {"url": url, "prefix": prefix, "script": source("renew"), "session": session, "lease": lease}
    return json.dumps(content).encode() + b"\n"


def main() -> None:
    # The parent alone decides when renewing ends: Ctrl-C and a service manager's SIGTERM reach all processes, and the
    # session has to outlive the drain that they begin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()
    line = sys.stdin.buffer.readline()
    if line:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _renew(json.loads(line), parent)


def _renew(orders: dict[str, Any], parent: int) -> None:
    interval = orders["lease"] / 3
    # A call that hangs must leave time for another within the same lease.
    patience = min(interval, 5.0)
    client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        orders["url"], socket_timeout=patience, socket_connect_timeout=patience, retry=Retry(NoBackoff(), 0)
    )
    script = client.register_script(orders["script"])
    keys, arguments = [orders["prefix"]], ["", orders["session"]]
    # A process that a handler forked may hold the pipe open when the parent has gone.
    while os.getppid() == parent:
        began = time.monotonic()
        try:
            alive = script(keys=keys, args=arguments)
        except NoScriptError:
            continue
        except (RedisError, OSError) as error:
            _say(f"{FAILED} {error}")
            time.sleep(min(interval / 4, 1.0))
            continue
        if not alive:
            _say(GONE)
            return
        _say(RENEWING)
        time.sleep(max(0.0, began + interval - time.monotonic()))


def _end_with_parent() -> None:
    """The parent holds the other end of standard input, which closes however the parent ends."""
    # Not through sys.stdin: its lock, held here, would abort an interpreter that ends by itself.
    while os.read(0, 1024):
        pass
    os._exit(0)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(" ".join(line.split()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
