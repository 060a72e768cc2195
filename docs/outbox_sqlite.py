"""An outbox in SQLite. `python outbox_sqlite.py shop.db http://127.0.0.1:8080` sends what waits in it."""

import json
import sqlite3
import sys
import time
import uuid
from typing import Any

from gopher_node import Client, JobExists, NoAnswer, QueueDraining, QueueFull, RateLimited, ServerUnavailable

OUTBOX = """
CREATE TABLE IF NOT EXISTS outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL, -- what POST /api/v1/jobs takes, with an id of its own
    refused TEXT       -- why the node did not take it
)
"""


def enqueue(db: sqlite3.Connection, type: str, payload: Any, **options: Any) -> str:
    """Called within a transaction of yours: once that is committed there is a job, and otherwise none."""
    job_id = str(uuid.uuid4())
    job = {"type": type, "payload": payload, **options, "job_id": job_id}
    db.execute("INSERT INTO outbox (job) VALUES (?)", (json.dumps(job),))
    return job_id


def relay(db: sqlite3.Connection, gopher: Client, most: int = 500) -> int:
    """Send jobs, the oldest first, and strike them off. Returns how many are done with."""
    rows = db.execute(
        "SELECT position, job FROM outbox WHERE refused IS NULL ORDER BY position LIMIT ?", (most,)
    ).fetchall()
    sent = gopher.submit_all(json.loads(job) for _, job in rows)
    with db:
        for (position, _), one in zip(rows, sent, strict=True):
            # JobExists: it was sent before, by a relay that did not get as far as this.
            if one.ok or isinstance(one.error, JobExists):
                db.execute("DELETE FROM outbox WHERE position = ?", (position,))
            elif not isinstance(one.error, (QueueFull, QueueDraining)):  # these may be taken later
                db.execute("UPDATE outbox SET refused = ? WHERE position = ?", (str(one.error), position))
    return sum(not isinstance(one.error, (QueueFull, QueueDraining)) for one in sent)


def main(path: str, url: str) -> None:
    """Until it is stopped, at whatever point."""
    db = sqlite3.connect(path)
    db.execute(OUTBOX)
    with Client(url) as gopher:
        while True:
            try:
                if relay(db, gopher):
                    continue
            except (NoAnswer, ServerUnavailable, RateLimited):
                pass  # what was not struck off is sent again
            time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
