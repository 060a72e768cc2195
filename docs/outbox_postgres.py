"""An outbox in PostgreSQL. `python outbox_postgres.py "dbname=shop" http://127.0.0.1:8080` sends what waits in it."""

import sys
import time
import uuid
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from gopher_node import Client, JobExists, NoAnswer, QueueDraining, QueueFull, RateLimited, ServerUnavailable

OUTBOX = """
CREATE TABLE IF NOT EXISTS outbox (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job JSONB NOT NULL, -- what POST /api/v1/jobs takes, with an id of its own
    refused TEXT        -- why the node did not take it
)
"""


def enqueue(db: psycopg.Connection[Any], type: str, payload: Any, **options: Any) -> str:
    """Called within a transaction of yours: once that is committed there is a job, and otherwise none."""
    job_id = str(uuid.uuid4())
    job = {"type": type, "payload": payload, **options, "job_id": job_id}
    db.execute("INSERT INTO outbox (job) VALUES (%s)", (Jsonb(job),))
    return job_id


def relay(db: psycopg.Connection[Any], gopher: Client, most: int = 500) -> int:
    """Send jobs, the oldest first, and strike them off. Returns how many are done with. Relays share the work."""
    with db.transaction():
        rows = db.execute(
            "SELECT position, job FROM outbox WHERE refused IS NULL ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED",
            (most,),
        ).fetchall()
        sent = gopher.submit_all(job for _, job in rows)
        for (position, _), one in zip(rows, sent, strict=True):
            # JobExists: it was sent before, by a relay that did not get as far as this.
            if one.ok or isinstance(one.error, JobExists):
                db.execute("DELETE FROM outbox WHERE position = %s", (position,))
            elif not isinstance(one.error, (QueueFull, QueueDraining)):  # these may be taken later
                db.execute("UPDATE outbox SET refused = %s WHERE position = %s", (str(one.error), position))
    return sum(not isinstance(one.error, (QueueFull, QueueDraining)) for one in sent)


def main(database: str, url: str) -> None:
    """Until it is stopped, at whatever point."""
    with psycopg.connect(database, autocommit=True) as db, Client(url) as gopher:
        db.execute(OUTBOX)
        while True:
            try:
                if relay(db, gopher):
                    continue
            except (NoAnswer, ServerUnavailable, RateLimited):
                pass  # what was not struck off is sent again
            time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
