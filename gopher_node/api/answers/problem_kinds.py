"""Every problem that an answer may have, by name: its status, its title, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What holds for every problem of one name.

    `advice` says what to do, on the problem's page. `retry_after` is in seconds; `close` ends the connection as well.
    """

    status: int
    title: str
    advice: str
    retry_after: int | None = None
    close: bool = False


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(
        400,
        "This is no valid HTTP request.",
        "The node could not read the request: its lines, headers or framing are not those of HTTP/1.1. Check "
        "what stands between you and the node, and whether one side speaks TLS and the other does not.",
        close=True,
    ),
    "empty-body": Kind(
        400,
        "The request has no body.",
        "Send the JSON that this address takes. With curl: -d '…' and -H 'Content-Type: application/json'.",
    ),
    "malformed-json": Kind(
        400,
        "The body is not valid JSON.",
        "The answer names the byte at which reading stopped. JSON is UTF-8 without a byte order mark; NaN, "
        "Infinity and lone surrogates are no JSON.",
    ),
    "number-out-of-range": Kind(
        400,
        "The body has a number that cannot be kept exactly.",
        "Integers have at most 64 bits and floats are finite. Send a larger number as a string.",
    ),
    "json-too-deep": Kind(
        400,
        "The body is nested too deeply.",
        "Arrays and objects may be nested 64 levels deep. Send deeper structures as a string.",
    ),
    "invalid-idempotency-key": Kind(
        400,
        "The header Idempotency-Key is not valid.",
        "A key is 1 to 255 visible ASCII characters, sent once. A UUID for each thing that is to happen once "
        "is a good one.",
    ),
    "bad-encoding": Kind(
        400,
        "The body is not what its Content-Encoding says.",
        "The body could not be decompressed. Send it as it is, or whole and with the right Content-Encoding.",
        close=True,
    ),
    "unauthenticated": Kind(
        401,
        "The request shows no valid API key.",
        "Send a key in the header Authorization: Bearer KEY, or X-API-Key: KEY; one of them, once. Whoever "
        "operates the node makes keys with: gopher-node keys create NAME --scopes submit,read",
    ),
    "forbidden": Kind(
        403,
        "The request may not do this.",
        "The answer says what is missing: a scope that the key does not have, or, on a node without keys, "
        "what makes the request look as if it came from a web page. Use a key with that scope.",
    ),
    "not-found": Kind(
        404,
        "There is nothing at this address.",
        "Check the address. /docs lists them all.",
    ),
    "job-not-found": Kind(
        404,
        "There is no such job.",
        "No job has this id: it was never stored here, was deleted, or has outlived its retention, which is a "
        "day for completed and cancelled jobs unless it is set otherwise.",
    ),
    "queue-not-found": Kind(
        404,
        "There is no such queue.",
        "A queue is named like the type of its jobs. GET /api/v1/queues lists those there are.",
    ),
    "key-not-found": Kind(
        404,
        "There is no such key.",
        "GET /api/v1/keys lists the keys.",
    ),
    "lease-not-found": Kind(
        404,
        "This is no lease's token.",
        "Send the token as the claim answered it.",
    ),
    "breaker-not-found": Kind(
        404,
        "The type has no circuit breaker.",
        "GET /api/v1/breakers lists those there are. A type has one if a handler, the settings or an operator say so.",
    ),
    "recurring-not-found": Kind(
        404,
        "There is no such recurring job.",
        "GET /api/v1/recurring lists those there are, by their names.",
    ),
    "handler-not-found": Kind(
        404,
        "No node has a handler for this type.",
        "Types have handlers while a node runs that has them. Jobs of other types are for workers over HTTP.",
    ),
    "node-not-found": Kind(
        404,
        "There is no such node.",
        "GET /api/v1/nodes lists the nodes. One that has not reported for a minute is forgotten.",
    ),
    "workflow-not-found": Kind(
        404,
        "There is no such workflow.",
        "No workflow has this id. It may have outlived its retention: GET /api/v1/workflows lists those there are.",
    ),
    "method-not-allowed": Kind(
        405,
        "This address does not answer this method.",
        "The header Allow of the answer names the methods of this address.",
    ),
    "request-timeout": Kind(
        408,
        "The request took too long to arrive.",
        "The whole request has to arrive within SERVER_READ_TIMEOUT, ten seconds unless it is set otherwise. "
        "Send less at a time, or over a faster connection.",
        close=True,
    ),
    "invalid-state": Kind(
        409,
        "The job's state does not allow this.",
        "The answer's `state` says where the job is now. A finished job can be retried, a waiting one edited "
        "or cancelled, and a running one only cancelled.",
    ),
    "last-admin-key": Kind(
        409,
        "Without this key, nobody could operate the node.",
        "Create another key with the scope admin first.",
    ),
    "key-in-settings": Kind(
        409,
        "This key belongs to the node's settings.",
        "It is named by the setting GOPHER_API_KEYS. Change that, and restart the nodes.",
    ),
    "recurring-exists": Kind(
        409,
        "Another recurring job has this name.",
        "Nothing was stored. GET /api/v1/recurring/NAME shows it, PATCH changes it. For another recurring "
        "job, choose another name.",
    ),
    "recurring-changed": Kind(
        409,
        "Others are changing this recurring job.",
        "Nothing was changed: several changes were made at the same time, again and again. Send yours again.",
    ),
    "job-exists": Kind(
        409,
        "A job has this id already.",
        "The job was stored before, and is in the answer's `state`. If that was your own request, whose "
        "answer was lost, all is well. An Idempotency-Key tells a repeat from another request.",
    ),
    "duplicate-job": Kind(
        409,
        "Another job bears this unique key.",
        "`job_id` names it, and `state` says where it is. Wait until it has ended, or submit with an `on_duplicate` of "
        "`existing` to be answered with it. A job that is to be retried needs its key again.",
    ),
    "queue-draining": Kind(
        409,
        "The queue is being drained.",
        "Nothing was stored: an operator had the queue take no new jobs. POST /api/v1/queues/TYPE/resume ends that.",
    ),
    "workflow-ended": Kind(
        409,
        "The workflow has ended.",
        "A workflow takes jobs while one of its jobs has not ended; the answer names the workflow's state. Begin a new "
        "one, or submit the job by itself.",
    ),
    "lease-lost": Kind(
        409,
        "The lease is no longer valid.",
        "Stop this run and claim anew. The job was given to another worker, or will be, and that run decides: "
        "the lease ended because it was not renewed in time, or because the run took longer than the job's "
        "timeout.",
    ),
    "lease-required": Kind(
        409,
        "The job's lease is needed for this.",
        "The job was claimed by a node, or at /api/v1/leases. Whoever claimed it has its token, and may send "
        "it in the header Gopher-Lease.",
    ),
    "payload-too-large": Kind(
        413,
        "The body is too large.",
        "The answer's `limit` is in bytes. Split what you send, or store it elsewhere and send its address.",
        close=True,
    ),
    "job-too-large": Kind(
        413,
        "The job's payload is too large.",
        "A payload may have 256 KiB of JSON. Store the rest elsewhere and send its address.",
    ),
    "batch-too-large": Kind(
        413,
        "The batch has too many jobs.",
        "A JSON array may hold 1,000 jobs. Send several, or a stream of lines as application/x-ndjson, which "
        "has no limit.",
    ),
    "result-too-large": Kind(
        413,
        "The result is too large.",
        "Store it elsewhere, and send its address.",
    ),
    "progress-too-large": Kind(
        413,
        "The progress is too large.",
        "Send what a person wants to see of it.",
    ),
    "uri-too-long": Kind(
        414,
        "The address is too long.",
        "An address may have 8 KiB. Use fewer or shorter parameters.",
        close=True,
    ),
    "unsupported-media-type": Kind(
        415,
        "The body must be JSON.",
        "Send the header Content-Type: application/json (or application/x-ndjson where that is taken), and UTF-8.",
    ),
    "unsupported-encoding": Kind(
        415,
        "This Content-Encoding is not supported.",
        "Send the body as it is, or compressed with gzip or deflate.",
    ),
    "expectation-failed": Kind(
        417,
        "Only Expect: 100-continue is understood.",
        "Leave the header Expect out, or send Expect: 100-continue.",
        close=True,
    ),
    "invalid-body": Kind(
        422,
        "The body is not valid.",
        "`errors` names each field that is wrong, and what it may hold.",
    ),
    "invalid-job": Kind(
        422,
        "The job is not valid.",
        "`errors` names each field that is wrong, and what it may hold.",
    ),
    "invalid-name": Kind(
        422,
        "A name is not valid.",
        "`errors` names the field. Names hold letters, digits and a few signs, and begin with a letter or digit.",
    ),
    "invalid-payload": Kind(
        422,
        "The payload does not fit the job's type.",
        "The type has a handler, which says what its payload must look like: see GET /api/v1/handlers. "
        "`errors` names each field that is wrong.",
    ),
    "invalid-run-at": Kind(
        422,
        "The time of execution is not valid.",
        "Times are RFC 3339 with a zone, such as 2027-01-31T08:00:00Z, and at most a year ahead. One in the "
        "past means now.",
    ),
    "invalid-schedule": Kind(
        422,
        "This does not say when to fire.",
        "A cron expression has five fields: minute, hour, day of month, month and weekday, such as 30 7 * * 1-5; "
        "or six with seconds in front; or it is one of @hourly, @daily, @weekly, @monthly, @yearly. A time zone has "
        "a name such as Europe/Berlin. POST /api/v1/recurring/preview tells when a schedule fires.",
    ),
    "invalid-duration": Kind(
        422,
        "A duration is not valid.",
        "Durations are numbers of seconds, or text such as 30s, 5m or 1h30m.",
    ),
    "out-of-range": Kind(
        422,
        "A value is out of range.",
        "`errors` names the field and its limits.",
    ),
    "callback-not-allowed": Kind(
        422,
        "A callback may not go there.",
        "Callbacks go to https addresses on the public internet. Whoever operates the node can allow others "
        "with the setting WEBHOOK_ALLOW.",
    ),
    "dependency-cycle": Kind(
        422,
        "Jobs wait for each other.",
        "None of them could ever run. `cycle` names them, each before the one that waits for it: take one of these "
        "names out of a `depends_on`.",
    ),
    "parent-not-found": Kind(
        422,
        "A job waits for one that does not exist.",
        "`depends_on` has ids of jobs that are stored, or names of jobs of the same request. A job that has ended may "
        "have outlived its retention. Nothing was stored.",
    ),
    "idempotency-key-reused": Kind(
        422,
        "This idempotency key was used with another request.",
        "Use a new key for a new request. To repeat a request, send the same bytes.",
    ),
    "unknown-field": Kind(
        422,
        "There is a field that does not exist.",
        "`errors` names it: it may be misspelt. Nothing was done, for a field that is ignored would "
        "surprise you later.",
    ),
    "invalid-parameter": Kind(
        422,
        "A query parameter is not valid.",
        "`errors` names each parameter that is wrong. Unknown ones are refused, for a misspelt filter would "
        "match everything.",
    ),
    "rate-limited": Kind(
        429,
        "The key has made too many requests.",
        "Wait as long as Retry-After says. The headers RateLimit-Policy and RateLimit tell the limit and what "
        "is left of it.",
    ),
    "queue-full": Kind(
        429,
        "The queue is full.",
        "Nothing was stored: as many jobs of this type wait as its `max_backlog` allows. Try again when some have run.",
        retry_after=5,
    ),
    "too-many-pools": Kind(
        429,
        "Workers claim too many different sets of types.",
        "Give workers that do the same work the same list of types, in any order. A list that nobody uses any "
        "more is forgotten within ten minutes.",
        retry_after=10,
    ),
    "headers-too-large": Kind(
        431,
        "The headers are too large.",
        "A request may have 100 headers, each of up to 16 KiB.",
        close=True,
    ),
    "internal": Kind(
        500,
        "The node made a mistake.",
        "This should not happen. The node's log has the details under the answer's `instance`; please report them.",
    ),
    "draining": Kind(
        503,
        "This node is shutting down.",
        "Send the request again: it goes to another node, or to this one's successor.",
        retry_after=1,
        close=True,
    ),
    "store-unavailable": Kind(
        503,
        "The store cannot be reached.",
        "Nothing was done. The node goes on trying to reach its Redis or Valkey, and /health says why it "
        "cannot. Send the request again.",
        retry_after=2,
    ),
    "store-timeout": Kind(
        503,
        "The store did not answer.",
        "What was asked may or may not have been done. A request with an Idempotency-Key, and any that only "
        "reads, can be sent again without harm.",
        retry_after=2,
    ),
    "store-full": Kind(
        503,
        "The store is full.",
        "Nothing was done. The server's memory is used up: it has to be given more, or jobs have to be "
        "finished or deleted.",
        retry_after=30,
    ),
    "store-read-only": Kind(
        503,
        "The store takes no writes at the moment.",
        "Nothing was done. The server refuses writes: it is a replica, or cannot save to its disk. Its "
        "operator has to see to it.",
        retry_after=5,
    ),
    "too-many-connections": Kind(
        503,
        "There are too many connections.",
        "Share connections: keep them open and send one request after the other. The settings "
        "SERVER_MAX_CONNECTIONS and SERVER_MAX_CONNECTIONS_PER_ADDRESS are the limits.",
        retry_after=1,
        close=True,
    ),
}
