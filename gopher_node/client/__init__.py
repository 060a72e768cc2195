"""The SDK: `Client` and `AsyncClient` with the same methods, what they answer, and what they raise."""

from gopher_node.client.asynchronous import AsyncClient
from gopher_node.client.blocking import Client
from gopher_node.client.calls import JobFilter, JobOptions, JobRequest
from gopher_node.client.problems import (
    ApiError,
    FieldError,
    Forbidden,
    InvalidRequest,
    InvalidState,
    JobNotFound,
    NoAnswer,
    NodeNotReady,
    NotFound,
    Problem,
    ServerUnavailable,
    TooManyRequests,
    Unauthenticated,
    UnexpectedAnswer,
    WaitTimeout,
)
from gopher_node.client.views import HandlerView, HealthView, JobView, QueueView, StatsView

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "FieldError",
    "Forbidden",
    "HandlerView",
    "HealthView",
    "InvalidRequest",
    "InvalidState",
    "JobFilter",
    "JobNotFound",
    "JobOptions",
    "JobRequest",
    "JobView",
    "NoAnswer",
    "NodeNotReady",
    "NotFound",
    "Problem",
    "QueueView",
    "ServerUnavailable",
    "StatsView",
    "TooManyRequests",
    "Unauthenticated",
    "UnexpectedAnswer",
    "WaitTimeout",
]
