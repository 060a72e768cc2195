"""Every setting of a node: its name, its kind, its default, and why one would change it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gopher_node.durations import format_duration
from gopher_node.flow import FlowPolicy
from gopher_node.job import DEFAULT_WEIGHTS, Priority
from gopher_node.limits import written
from gopher_node.settings import kinds
from gopher_node.settings.flow import FlowTable
from gopher_node.settings.layers import Layers, Setting, hide_credentials, list_settings, setting
from gopher_node.settings.metrics import MetricsSettings
from gopher_node.settings.push import Push, PushTarget
from gopher_node.settings.tracing import TracingSettings

DAY = 86_400.0


class Section(BaseModel):
    """Settings that belong together: a table in the TOML file, a prefix in the environment."""

    # A default is read like any other value: a relative path becomes absolute.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServerSettings(Section):
    host: kinds.Host = setting(
        "127.0.0.1", "The address the API listens on; 0.0.0.0 is every address of the machine.", flag="--host"
    )
    port: Annotated[int, kinds.whole(0, 65535)] = setting(
        8080, "The port of the API; 0 takes a free one and logs which.", flag="--port"
    )
    read_timeout: Annotated[float, kinds.seconds(0.01, 3600)] = setting(
        10.0, "How long a client may take to send a whole request, so that a slow one cannot hold a connection."
    )
    write_timeout: Annotated[float, kinds.seconds(0.01, 3600)] = setting(
        10.0, "How long a client may take to accept an answer before it is cut off."
    )
    shutdown_delay: Annotated[float, kinds.seconds(0, 3600)] = setting(
        0.0, "How long a node that is to stop still takes requests, so that balancers have seen that it is unready."
    )
    tls_cert: kinds.OptionalLocation = setting(
        None, "The certificate (PEM, with its chain) to serve HTTPS with; renewed files are picked up within a minute."
    )
    tls_key: kinds.OptionalLocation = setting(None, "The certificate's private key (PEM, not encrypted).")
    anonymous: kinds.Truth = setting(
        False, "Whether everybody may do everything, also from other machines, while there is no API key."
    )
    base_path: kinds.BasePath = setting(
        "", "The prefix of every address, such as /jobs; the probes are also found without it."
    )
    trusted_proxies: kinds.Addresses = setting(
        [], "Addresses and networks of your proxies, whose X-Forwarded-For is believed."
    )
    cors_origins: kinds.Origins = setting(
        [], "Origins of web pages that may call the API from a browser; * is every one that has a key."
    )
    max_connections: Annotated[int, kinds.whole(1, 1_000_000)] = setting(
        4096, "How many connections may be open at the same time."
    )
    max_connections_per_address: Annotated[int, kinds.whole(1, 1_000_000)] = setting(
        512, "How many of them may come from one address, trusted proxies apart."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("CERT", "KEY") if self.tls_cert else ("KEY", "CERT")
            raise ValueError(f"SERVER_TLS_{given} needs SERVER_TLS_{missing}; set both, or none to serve plain HTTP")
        return self


class RedisSettings(Section):
    url: kinds.RedisUrl = setting(
        None, "The server that several nodes share; unset, the node runs one of its own.", shown=False
    )
    password: kinds.Secret = setting(None, "The server's password, if it does not stand in the URL.")
    db: Annotated[int | None, kinds.whole(0, 65535, optional=True)] = setting(
        None, "The number of the server's database, if it does not stand in the URL."
    )
    timeout: Annotated[float, kinds.seconds(0.01, 600)] = setting(
        5.0, "How long to wait for the server's answer before the outcome counts as unknown."
    )

    @model_validator(mode="after")
    def _url_agrees(self) -> Self:
        if not self.url:
            return self
        parts = urlsplit(self.url)
        if self.password and parts.password and unquote(parts.password) != self.password.get_secret_value():
            raise ValueError("REDIS_PASSWORD is not the password that REDIS_URL holds; keep one of them")
        databases = parse_qs(parts.query).get("db", []) or ([parts.path[1:]] if parts.scheme != "unix" else [])
        if self.db is not None and any(database and database != str(self.db) for database in databases):
            raise ValueError(f"REDIS_DB={self.db} is not the database that REDIS_URL names; keep one of them")
        return self

    @property
    def connection_url(self) -> str | None:
        """The URL, and in it what REDIS_PASSWORD and REDIS_DB add. It is a secret if they are."""
        if not self.url:
            return None
        parts = urlsplit(self.url)
        user, _, host = parts.netloc.rpartition("@")
        if self.password and not parts.password:
            user = f"{user.rstrip(':')}:{quote(self.password.get_secret_value(), safe='')}"
        query = parse_qs(parts.query)
        if self.db is not None:
            query["db"] = [str(self.db)]
        address = f"{parts.scheme}://{user}@{host}" if user else f"{parts.scheme}://{host}"
        # Put together by hand, for urlunsplit leaves out the slashes of unix:///path.
        return address + parts.path + (f"?{urlencode(query, doseq=True)}" if query else "")


class WorkerSettings(Section):
    concurrency: Annotated[int | Literal["auto"], kinds.whole(1, 10_000, word="auto")] = setting(
        100,
        "How many jobs run at the same time on this node; auto is as many as it copes with.",
        env=("WORKER_CONCURRENCY", "WORKER_NUM_WORKERS", "WORKER_MAX_CONCURRENCY"),
        flag="--concurrency",
    )
    concurrency_min: Annotated[int, kinds.whole(1, 10_000)] = setting(
        10, "With auto: how many jobs may run at the same time, however strained the node is."
    )
    concurrency_max: Annotated[int, kinds.whole(1, 10_000)] = setting(
        500, "With auto: how many jobs run at the same time at most."
    )
    poll_interval: Annotated[float, kinds.seconds(0.01, 60)] = setting(
        1.0, "The longest an idle worker waits before it asks again, should a wake-up be lost."
    )
    max_retries: Annotated[int, kinds.whole(0, 1000)] = setting(
        3,
        "How often a job that ended in an error runs again, where neither the job nor its handler says.",
        env=("WORKER_MAX_RETRIES", "WORKER_RETRY_ATTEMPTS"),
    )
    shutdown_timeout: Annotated[float, kinds.seconds(0, DAY)] = setting(
        30.0, "How long running jobs may take to finish on shutdown before they are handed back."
    )
    job_timeout: Annotated[float, kinds.seconds(0.001)] = setting(
        300.0, "How long one run may take, where neither the job nor its handler says."
    )
    lease: Annotated[float, kinds.seconds(1, 3600)] = setting(
        15.0, "How long a node may be silent before its jobs are given to another."
    )
    cancel_grace: Annotated[float, kinds.seconds(0.01, 3600)] = setting(
        10.0, "How long a run whose job is cancelled may take to stop before it is given up."
    )
    types: kinds.Types = setting(
        None, "The job types this node runs; unset, every type it has a handler for.", flag="--types"
    )
    retry_base: Annotated[float, kinds.seconds(0, DAY)] = setting(
        2.0, "The longest wait before the first retry; it doubles with each further one."
    )
    retry_cap: Annotated[float, kinds.seconds(0)] = setting(600.0, "What the wait before a retry never exceeds.")
    weights: kinds.Weights = setting(
        DEFAULT_WEIGHTS, "The shares of the four priorities while all of them have jobs waiting."
    )

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.retry_cap < self.retry_base:
            raise ValueError(
                f"WORKER_RETRY_CAP={format_duration(self.retry_cap)} must not be below "
                f"WORKER_RETRY_BASE={format_duration(self.retry_base)}"
            )
        if self.concurrency_max < self.concurrency_min:
            raise ValueError(
                f"WORKER_CONCURRENCY_MAX={self.concurrency_max} must not be below "
                f"WORKER_CONCURRENCY_MIN={self.concurrency_min}"
            )
        return self

    @property
    def slots(self) -> tuple[int, int]:
        """The fewest and the most jobs that may run at the same time."""
        if self.concurrency == "auto":
            return self.concurrency_min, self.concurrency_max
        return self.concurrency, self.concurrency


class RetentionSettings(Section):
    completed: Annotated[float, kinds.seconds(1)] = setting(DAY, "How long a completed job can be looked up.")
    cancelled: Annotated[float, kinds.seconds(1)] = setting(DAY, "How long a cancelled job can be looked up.")
    max_jobs: Annotated[int, kinds.whole(1, 100_000_000)] = setting(
        100_000, "How many completed, and how many cancelled, jobs are kept at most; the newest stay."
    )
    idempotency: Annotated[float, kinds.seconds(1)] = setting(
        DAY, "How long a repeated request with the same Idempotency-Key gets the first one's answer."
    )


LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "console", "json"]
JobLines = Literal["all", "sampled", "none"]


class LogSettings(Section):
    level: Annotated[LogLevel, kinds.choice(LogLevel, synonyms={"warn": "warning", "fatal": "critical"})] = setting(
        "info", "The least serious lines that are written."
    )
    format: Annotated[LogFormat, kinds.choice(LogFormat)] = setting(
        "auto", "Lines for people or for programs; auto is console on a terminal and json elsewhere."
    )
    jobs: Annotated[JobLines, kinds.choice(JobLines)] = setting(
        "sampled", "Which ends of jobs are written; sampled is all of them up to 1,000 a second."
    )


MailTls = Literal["auto", "none", "starttls", "tls"]


class SmtpSettings(Section):
    host: kinds.OptionalHost = setting(
        None, "The mail server; unset, the email handler writes .eml files under the data directory."
    )
    port: Annotated[int, kinds.whole(1, 65535)] = setting(587, "The mail server's port.")
    username: kinds.Text = setting(None, "Who to log in as; unset, there is no login.")
    password: kinds.Secret = setting(None, "The password of that user.")
    sender: kinds.MailAddress = setting(None, "The From address of mails whose job names none.", env=("SMTP_FROM",))
    tls: Annotated[MailTls, kinds.choice(MailTls)] = setting(
        "auto", "auto is tls on port 465, and elsewhere starttls if the server offers it."
    )


class FilesSettings(Section):
    root: kinds.Location = setting(
        Path(".data/files"),
        "The only directory that handlers read and write files in; unset, `files` in the data directory.",
    )


class WebhookSettings(Section):
    secret: kinds.Secret = setting(None, "What webhook deliveries are signed with.")
    allow: kinds.Networks = setting(
        [], "Private addresses, networks and hosts that webhooks may reach; public ones they may reach always."
    )
    timeout: Annotated[float, kinds.seconds(0.01, 3600)] = setting(10.0, "How long a receiver may take to answer.")


class PaymentSettings(Section):
    url: kinds.WebUrl = setting(None, "The endpoint that process_payment calls.", shown=False)
    secret: kinds.Secret = setting(None, "What calls to that endpoint are authorised with.")


@dataclass(frozen=True, slots=True)
class Described:
    """A setting's value as it may be shown, and where it comes from: a flag, a variable, the file, or "default"."""

    value: Any
    source: str


Role = Literal["all", "api", "worker"]


class Settings(BaseSettings):
    """
    The settings of one node, checked once at the start and fixed from then on.

    `Settings(…)` takes its arguments and nothing else; `Settings.load` reads flags, environment and file.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    role: Annotated[Role, kinds.choice(Role)] = setting(
        "all", "What this node does: all of it, only the API, or only the work."
    )
    data_dir: kinds.Location = setting(
        Path(".data"), "Where the node's own store and its files live; on a server, name a fixed place."
    )
    handlers: kinds.Modules = setting([], "Your modules with handlers; the built-in handlers are always there.")
    namespace: kinds.Namespace = setting(
        "gopher", "Sets apart systems that share a Redis server: no job of one is seen in another."
    )
    url: kinds.WebUrl = setting(
        None, "The node that the command line talks to; unset, the one that [server] describes.", shown=False
    )
    api_keys: kinds.ApiKeys = setting(
        [],
        "Keys that requests must show, beside those that the store holds; without any, see server.anonymous.",
        shown=False,
    )
    push: Push = setting(
        {}, "Job types that are sent to HTTP endpoints of yours instead of run by the node.", shown=False
    )
    flow: FlowTable = setting({}, "What bounds the jobs of each type on all nodes together: rates, caps, breakers.")
    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    smtp: SmtpSettings = SmtpSettings()
    files: FilesSettings = Field(default_factory=FilesSettings)
    webhook: WebhookSettings = WebhookSettings()
    payment: PaymentSettings = PaymentSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict[str, str])
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _files_follow_data(cls, values: dict[str, Any]) -> dict[str, Any]:
        files: dict[str, Any] | FilesSettings = values.get("files", {})
        if isinstance(files, dict) and "root" not in files and isinstance(values.get("data_dir"), (str, Path)):
            return {**values, "files": {**files, "root": Path(values["data_dir"]) / "files"}}
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config: Path | None = None,
    ) -> Self:
        """
        Merge flags, environment, TOML file and defaults, the first that speaks winning.

        `flags` maps paths ("role", "worker.concurrency") to values; None is a flag that was not given. The file is
        `config`, else GOPHER_CONFIG, else config/gopher-node.toml where it exists. Relative paths start at the
        working directory. Raises SettingError that names everything that is wrong.
        """
        layers = Layers(SETTINGS)
        layers.read(flags or {}, os.environ if environ is None else environ, config)
        # Type checkers know a model's fields as its only parameters.
        build = cast("Callable[..., Self]", cls)
        try:
            settings = build(_build_sources=(layers.sources(cls), {}))
        except ValidationError as error:
            layers.add_invalid(error)
            raise layers.complaint() from None
        if layers.problems:
            raise layers.complaint()
        settings._origins = layers.origins()
        settings._warnings = tuple(layers.warnings)
        return settings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looked like a slip and was ignored; for the log, once that is set up."""
        return self._warnings

    def describe(self) -> dict[str, Described]:
        """Every setting by its path, with secrets hidden."""
        described: dict[str, Described] = {}
        for entry in SETTINGS:
            value: Any = self
            for name in entry.path.split("."):
                value = getattr(value, name)
            described[entry.path] = Described(_plain(entry, value), self._origins.get(entry.path, "default"))
        return described


def _plain(entry: Setting, value: Any) -> Any:
    """As a value that JSON and TOML know, written as a user would write it."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if entry.path == "push":
        return {type: target.origin for type, target in cast("dict[str, PushTarget]", value).items()}
    if entry.path == "flow":
        return {type: written(policy) for type, policy in cast("dict[str, FlowPolicy]", value).items()}
    if entry.masked == "all":
        return "***" if value else []
    if isinstance(value, float):
        return value if entry.path == "tracing.sample_ratio" else format_duration(value)
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, dict):
        return {level.label: weight for level, weight in cast("dict[Priority, int]", value).items()}
    if isinstance(value, list):
        return [str(item) for item in cast("list[object]", value)]
    return hide_credentials(str(value)) if entry.masked else str(value)


SETTINGS = tuple(list_settings(Settings))
"""Every setting there is, for the command line's flags, the documentation and the checks."""
