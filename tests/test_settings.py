from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gopher_node.errors import SettingError
from gopher_node.flow import FlowPolicy, Rate
from gopher_node.job import Priority
from gopher_node.settings import SETTINGS, FilesSettings, RedisSettings, Settings, WorkerSettings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the checkout, so that no configuration file is found by chance."""
    monkeypatch.chdir(tmp_path)


def load(environ: Mapping[str, str] | None = None, toml: str | None = None, **flags: object) -> Settings:
    config = None
    if toml is not None:
        config = Path("node.toml")
        config.write_text(toml)
    return Settings.load({name.replace("__", "."): value for name, value in flags.items()}, environ or {}, config)


def value_of(settings: Settings, path: str) -> object:
    value: object = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


# Names and values

GOOD = {
    "SERVER_HOST": ("0.0.0.0", "server.host", "0.0.0.0"),
    "SERVER_PORT": ("9000", "server.port", 9000),
    "SERVER_READ_TIMEOUT": ("20s", "server.read_timeout", 20.0),
    "SERVER_SHUTDOWN_DELAY": ("5s", "server.shutdown_delay", 5.0),
    "SERVER_WRITE_TIMEOUT": ("1m", "server.write_timeout", 60.0),
    "SERVER_ANONYMOUS": ("Yes", "server.anonymous", True),
    "METRICS_ANONYMOUS": ("true", "metrics.anonymous", True),
    "SERVER_BASE_PATH": ("/jobs/v2/", "server.base_path", "/jobs/v2"),
    "SERVER_TRUSTED_PROXIES": (
        "10.0.0.5, fd00::/8",
        "server.trusted_proxies",
        [ip_network("10.0.0.5"), ip_network("fd00::/8")],
    ),
    "SERVER_CORS_ORIGINS": (
        "https://A.example.org:443/,http://localhost:3000,http://b.example:80,*",
        "server.cors_origins",
        ["https://a.example.org", "http://localhost:3000", "http://b.example", "*"],
    ),
    "SERVER_MAX_CONNECTIONS": ("10", "server.max_connections", 10),
    "SERVER_MAX_CONNECTIONS_PER_ADDRESS": ("5", "server.max_connections_per_address", 5),
    "REDIS_URL": ("REDISS://user@example.org/2", "redis.url", "rediss://user@example.org/2"),
    "REDIS_DB": ("3", "redis.db", 3),
    "REDIS_TIMEOUT": ("500ms", "redis.timeout", 0.5),
    "WORKER_CONCURRENCY": ("5", "worker.concurrency", 5),
    "WORKER_NUM_WORKERS": ("6", "worker.concurrency", 6),
    "WORKER_MAX_CONCURRENCY": ("7", "worker.concurrency", 7),
    "WORKER_CONCURRENCY_MIN": ("2", "worker.concurrency_min", 2),
    "WORKER_CONCURRENCY_MAX": ("600", "worker.concurrency_max", 600),
    "WORKER_POLL_INTERVAL": ("100ms", "worker.poll_interval", 0.1),
    "WORKER_MAX_RETRIES": ("0", "worker.max_retries", 0),
    "WORKER_RETRY_ATTEMPTS": ("9", "worker.max_retries", 9),
    "WORKER_SHUTDOWN_TIMEOUT": ("0", "worker.shutdown_timeout", 0.0),
    "WORKER_JOB_TIMEOUT": ("1h30m", "worker.job_timeout", 5400.0),
    "WORKER_LEASE": ("1s", "worker.lease", 1.0),
    "WORKER_CANCEL_GRACE": ("5s", "worker.cancel_grace", 5.0),
    "WORKER_TYPES": (" email, math,,email ", "worker.types", ["email", "math"]),
    "WORKER_RETRY_BASE": ("1", "worker.retry_base", 1.0),
    "WORKER_RETRY_CAP": ("2d", "worker.retry_cap", 172_800.0),
    "RETENTION_COMPLETED": ("1h", "retention.completed", 3600.0),
    "RETENTION_CANCELLED": ("1h", "retention.cancelled", 3600.0),
    "RETENTION_MAX_JOBS": ("10", "retention.max_jobs", 10),
    "RETENTION_IDEMPOTENCY": ("2h", "retention.idempotency", 7200.0),
    "LOG_LEVEL": ("WARN", "log.level", "warning"),
    "LOG_FORMAT": ("console", "log.format", "console"),
    "LOG_JOBS": ("none", "log.jobs", "none"),
    "SMTP_HOST": ("mail.example.org", "smtp.host", "mail.example.org"),
    "SMTP_PORT": ("465", "smtp.port", 465),
    "SMTP_USERNAME": ("jobs", "smtp.username", "jobs"),
    "SMTP_FROM": ("Jobs <jobs@example.org>", "smtp.sender", "Jobs <jobs@example.org>"),
    "SMTP_TLS": ("starttls", "smtp.tls", "starttls"),
    "FILES_ROOT": ("/srv/files", "files.root", Path("/srv/files")),
    "WEBHOOK_TIMEOUT": ("3s", "webhook.timeout", 3.0),
    "PAYMENT_URL": ("https://pay.example.org/charge", "payment.url", "https://pay.example.org/charge"),
    "TRACING_ENDPOINT": ("http://collector:4318", "tracing.endpoint", "http://collector:4318"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("https://a.example.org/otlp", "tracing.endpoint", "https://a.example.org/otlp"),
    "TRACING_SAMPLE_RATIO": ("0.05", "tracing.sample_ratio", 0.05),
    "TRACING_PARENT_MODE": ("Parent", "tracing.parent_mode", "parent"),
    "GOPHER_ROLE": ("API", "role", "api"),
    "GOPHER_DATA_DIR": ("/srv/gopher", "data_dir", Path("/srv/gopher")),
    "GOPHER_HANDLERS": ("myapp.jobs,myapp.mail", "handlers", ["myapp.jobs", "myapp.mail"]),
    "GOPHER_NAMESPACE": ("shop-2", "namespace", "shop-2"),
    "GOPHER_URL": ("http://[::1]:8080", "url", "http://[::1]:8080"),
    "GOPHER_FLOW": (
        '{"email": {"rate_limit": "100/s", "max_running": 4}}',
        *("flow", {"email": FlowPolicy(rate=Rate(100), max_running=4)}),
    ),
}
SECRETS = ("REDIS_PASSWORD", "SMTP_PASSWORD", "WEBHOOK_SECRET", "PAYMENT_SECRET")
MASKED = (*SECRETS, "GOPHER_API_KEYS", "GOPHER_PUSH")


@pytest.mark.parametrize("name", GOOD)
def test_every_name_works(name: str) -> None:
    """Each environment name sets its setting, and the setting knows where it has its value from."""
    written, path, expected = GOOD[name]

    settings = load({name: written})

    assert expected == value_of(settings, path)
    assert settings.describe()[path].source == name


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_kept_and_not_shown(name: str) -> None:
    """A secret is there for who asks for it, and in no description of the settings."""
    settings = load({name: "hunter 2"})
    path = next(entry.path for entry in SETTINGS if name in entry.env)

    assert value_of(settings, path) == SecretStr("hunter 2")
    assert "hunter" not in f"{settings!r} {settings} {settings.describe()}"


def test_every_setting_is_tried() -> None:
    """No setting is left out of the two tables above."""
    tried = {path for _, path, _ in GOOD.values()} | {"worker.weights", "webhook.allow"}
    tried |= {"api_keys", "push", "server.tls_cert", "server.tls_key"}
    tried |= {entry.path for entry in SETTINGS for name in entry.env if name in SECRETS}
    assert {entry.path for entry in SETTINGS} == tried


BAD = {
    "SERVER_HOST": ["two words", "256.0.0.1", "http://x", "a" * 300],
    "SERVER_PORT": ["http", "-1", "65536", "80.0", "8_0"],
    "SERVER_READ_TIMEOUT": ["soon", "0", "-1s", "2h"],
    "SERVER_SHUTDOWN_DELAY": ["-1s", "2h"],
    "SERVER_WRITE_TIMEOUT": ["10 seconds", "0ms"],
    "SERVER_TLS_CERT": ["a\x00b"],
    "SERVER_TLS_KEY": ["a\nb"],
    "SERVER_ANONYMOUS": ["maybe", "2", "t"],
    "METRICS_ANONYMOUS": ["maybe", "2"],
    "SERVER_BASE_PATH": ["jobs", "/a b", "/a/../b", "//a", "/a?b", "https://x/a"],
    "SERVER_TRUSTED_PROXIES": ["proxy.example.org", "10.0.0.1/8", "*"],
    "SERVER_CORS_ORIGINS": ["example.org", "https://x/path", "https://a@b", "ftp://x", "null", "https://*.example.org"],
    "SERVER_MAX_CONNECTIONS": ["0", "many"],
    "SERVER_MAX_CONNECTIONS_PER_ADDRESS": ["0", "-1"],
    "GOPHER_API_KEYS": [
        "hunter2",
        "x" * 31,
        "sha256:abc",
        "x" * 32 + ":boss",
        "x" * 32 + ":",
        "x" * 31 + "ä",
        "x" * 32 + ":read," + "x" * 32,
    ],
    "REDIS_URL": ["h:6379", "http://h", "redis://", "redis://h:70000", "redis://h/one", "redis://a b", "unix://x/y"],
    "REDIS_PASSWORD": ["two\nlines"],
    "REDIS_DB": ["-1", "first", "1.5"],
    "REDIS_TIMEOUT": ["0", "never", "1d"],
    "WORKER_CONCURRENCY": ["0", "automatic", "many", "-5", "10001", "5.5", "1e2"],
    "WORKER_NUM_WORKERS": ["0"],
    "WORKER_MAX_CONCURRENCY": ["0"],
    "WORKER_CONCURRENCY_MIN": ["0", "auto"],
    "WORKER_CONCURRENCY_MAX": ["10001", "auto"],
    "WORKER_POLL_INTERVAL": ["0", "2m", "x"],
    "WORKER_MAX_RETRIES": ["-1", "3.5", "forever", "1001"],
    "WORKER_RETRY_ATTEMPTS": ["-1"],
    "WORKER_SHUTDOWN_TIMEOUT": ["-1s", "2d", "30 s"],
    "WORKER_JOB_TIMEOUT": ["0", "5M", "forever"],
    "WORKER_CANCEL_GRACE": ["0", "2h", "x"],
    "WORKER_LEASE": ["999ms", "2h", "0", "x"],
    "WORKER_TYPES": ["email,two words", "a{b", ",", "x" * 101],
    "WORKER_RETRY_BASE": ["-1", "2d", "x"],
    "WORKER_RETRY_CAP": ["-1", "x"],
    "GOPHER_FLOW": [
        *(
            "email=5",
            "[]",
            '{"a b": {}}',
            '{"a": 5}',
            '{"a": {"rate": "5/s"}}',
            '{"a": {"rate_limit": "5 per second"}}',
        ),
        *('{"a": {"max_running": 0}}', '{"a": {"breaker": {"ratio": 2}}}', '{"a": {"group_rate_limit": {"per": 1}}}'),
    ],
    "WORKER_WEIGHTS": ["8:4", "0:4:2:1", "8:4:2:x", "high=0", "low=1,low=2", "top=1", "1:2:3:4:5", "high", "9999:1:1"],
    "RETENTION_COMPLETED": ["0", "forever", "-1d"],
    "RETENTION_CANCELLED": ["0", "999ms"],
    "RETENTION_IDEMPOTENCY": ["0", "999ms"],
    "RETENTION_MAX_JOBS": ["0", "many", "-1"],
    "LOG_LEVEL": ["loud", "10"],
    "LOG_FORMAT": ["xml"],
    "LOG_JOBS": ["some"],
    "SMTP_HOST": ["mail server", "smtp://mail"],
    "SMTP_PORT": ["0", "65536", "smtp"],
    "SMTP_USERNAME": ["a\x00b"],
    "SMTP_PASSWORD": ["tab\there"],
    "SMTP_FROM": ["nobody", "a@b@c", "x@y\r\nBcc: z@y"],
    "SMTP_TLS": ["yes", "ssl"],
    "FILES_ROOT": ["a\x00b", "~nobody-of-this-name/x"],
    "WEBHOOK_SECRET": ["line\nbreak"],
    "WEBHOOK_ALLOW": ["10.0.0.1/8", "10.0.0.0/33", "not a host", "256.1.1.1"],
    "WEBHOOK_TIMEOUT": ["0", "x"],
    "PAYMENT_URL": ["example.org", "ftp://example.org", "http://", "http://x:0"],
    "PAYMENT_SECRET": ["line\nbreak"],
    "TRACING_ENDPOINT": ["collector:4317", "grpc://collector:4317"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["collector:4318"],
    "TRACING_SAMPLE_RATIO": ["1.1", "-0.1", "10%", "nan"],
    "TRACING_PARENT_MODE": ["child"],
    "GOPHER_ROLE": ["server", "api,worker"],
    "GOPHER_DATA_DIR": ["a\nb"],
    "GOPHER_HANDLERS": ["my-app", "myapp/jobs.py", "a..b", "a b"],
    "GOPHER_NAMESPACE": ["a:b", "{a}", "-a", "x" * 65],
    "GOPHER_URL": ["localhost:8080", "redis://x"],
    "GOPHER_PUSH": ["shrink", "a b=https://x.org", "a=ftp://x.org", "a=", "a=https://x.org,a=https://y.org", "b=http"],
}


@pytest.mark.parametrize(("name", "written"), [(name, written) for name, texts in BAD.items() for written in texts])
def test_every_bad_value_is_refused_with_its_name(name: str, written: str) -> None:
    """A value that cannot be used stops the start, and the message has its name, the value and what is allowed."""
    with pytest.raises(SettingError) as caught:
        load({name: written})

    message = str(caught.value)
    assert message.startswith(f"A setting cannot be used: {name}=")
    assert re.search(r"must (be|list|name|not contain)|is an address and no network", message)
    assert "\n" not in message
    if name in MASKED:
        assert f'{name}="***" must' in message
        assert written not in message
    else:
        assert json.dumps(written)[1:100].rstrip('"') in message


def test_every_family_has_bad_values() -> None:
    """No environment name is left out of the table of bad values."""
    assert {name for entry in SETTINGS for name in entry.env} == set(BAD)


def test_concurrency_may_be_left_to_the_node() -> None:
    """`auto` goes between two bounds, and a number is both of them."""
    assert load({"WORKER_CONCURRENCY": "7"}).worker.slots == (7, 7)
    chosen = load({"WORKER_CONCURRENCY": "Auto", "WORKER_CONCURRENCY_MIN": "3", "WORKER_CONCURRENCY_MAX": "30"})
    assert (chosen.worker.concurrency, chosen.worker.slots) == ("auto", (3, 30))
    with pytest.raises(SettingError, match=r'"automatic" must be a whole number from 1 to 10000, or auto'):
        load({"WORKER_CONCURRENCY": "automatic"})
    with pytest.raises(SettingError, match="WORKER_CONCURRENCY_MAX=3 must not be below WORKER_CONCURRENCY_MIN=10"):
        load({"WORKER_CONCURRENCY_MAX": "3"})


def test_all_bad_values_are_reported_at_once() -> None:
    """One failed start shows all that must be mended, each by the name under which it was written."""
    with pytest.raises(SettingError) as caught:
        load({"LOG_LEVEL": "loud", "GOPHER_HANDLER": "x"}, toml="[worker]\nlease = 0\nleese = 1", server__port="high")

    lines = str(caught.value).split("\n  - ")
    assert lines[0] == "5 settings cannot be used:"
    assert sorted(lines[1:]) == [
        '--port="high" must be a whole number from 0 to 65535',
        "GOPHER_HANDLER is not a setting; did you mean GOPHER_HANDLERS?",
        'LOG_LEVEL="loud" must be debug, info, warning, error or critical',
        "node.toml: worker.lease=0 must be a duration from 1s to 1h",
        "node.toml: worker.leese is not a setting; did you mean worker.lease?",
    ]


@pytest.mark.parametrize(
    "url",
    ["redis://user:hunter2@", "http://user:hunter2@host", "user:hunter2@host:6379", "redis://:hunt@er2@/x/y@host:x"],
)
def test_no_message_shows_a_password(url: str) -> None:
    """A URL is shown without its credentials, be it ever so malformed."""
    with pytest.raises(SettingError, match="REDIS_URL=") as caught:
        load({"REDIS_URL": url})
    assert "hunt" not in str(caught.value)
    assert "er2" not in str(caught.value)


def test_a_good_url_is_shown_without_password() -> None:
    """The description names the server and hides how to get in."""
    settings = load(
        {"REDIS_URL": "redis://jobs:hunter2@example.org/0", "PAYMENT_URL": "https://x.org/?api_key=hunter2&a=1"}
    )

    assert settings.describe()["redis.url"].value == "redis://***@example.org/0"
    assert settings.describe()["payment.url"].value == "https://x.org/?api_key=***&a=1"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://[::1]:6379/1",
        "rediss://u:p%40@h.example.org:6380/0?ssl_ca_certs=/ca.pem",
        "unix:///run/valkey.sock",
        "unix://user:pw@/run/valkey.sock?db=2",
    ],
)
def test_redis_urls(url: str) -> None:
    """TCP, TLS and unix sockets, with user, password, database and options."""
    assert load({"REDIS_URL": url}).redis.url == url


# Values with a grammar of their own


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("8:4:2:1", (8, 4, 2, 1)),
        ("3:2:1", (6, 3, 2, 1)),
        ("1000:1:1", (1000, 1000, 1, 1)),
        ("high=5", (8, 5, 2, 1)),
        ("urgent=9, high=3,normal=2,low=1", (9, 3, 2, 1)),
        ("4=9,LOW=2", (9, 4, 2, 2)),
    ],
)
def test_weights(written: str, expected: tuple[int, ...]) -> None:
    """Weights are written for four levels, for three, or by name; what is not named keeps its default."""
    levels = (Priority.URGENT, Priority.HIGH, Priority.NORMAL, Priority.LOW)
    assert dict(zip(levels, expected, strict=True)) == load({"WORKER_WEIGHTS": written}).worker.weights


def test_weights_as_a_table() -> None:
    """In the file, weights may be a table."""
    assert load(toml="[worker.weights]\nurgent = 9").worker.weights[Priority.URGENT] == 9
    for wrong in ("high = 0", 'high = "3"', "high = true", "top = 1"):
        with pytest.raises(SettingError, match=r"worker\.weights="):
            load(toml=f"[worker.weights]\n{wrong}")


def test_networks() -> None:
    """Addresses, networks and host names may be allowed to webhooks, from the environment and the file."""
    expected = [ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"), "hooks.example.org"]

    assert expected == load({"WEBHOOK_ALLOW": "127.0.0.1,10.0.0.0/8, fd00::/8,Hooks.example.org"}).webhook.allow
    assert expected[:1] == load(toml='[webhook]\nallow = ["127.0.0.1"]').webhook.allow


def test_a_network_with_a_slip_is_corrected() -> None:
    """An address with a prefix length is refused and not widened in silence."""
    with pytest.raises(SettingError, match=r"10.0.0.1/8 is an address and no network; did you mean 10.0.0.0/8\?"):
        load({"WEBHOOK_ALLOW": "10.0.0.1/8"})


def test_lists_in_the_file() -> None:
    """Lists are arrays in the file, and arrays of anything but text are refused."""
    assert load(toml='handlers = ["a.b"]\n[worker]\ntypes = ["x"]').handlers == ["a.b"]
    for wrong in ("handlers = [1]", "handlers = 5", "handlers = {a = 1}", "[worker]\ntypes = []"):
        with pytest.raises(SettingError, match=r"node\.toml: (handlers|worker\.types)="):
            load(toml=wrong)


@pytest.mark.parametrize(
    "line", ["port = true", "port = 80.5", "read_timeout = true", "host = 1", 'host = ""', "port = [1]"]
)
def test_types_in_the_file(line: str) -> None:
    """A value of the wrong type is refused, and no truth value passes for a number."""
    with pytest.raises(SettingError, match=rf"node\.toml: server\.{line.split()[0]}="):
        load(toml=f"[server]\n{line}")


def test_api_keys() -> None:
    """Keys are kept as their SHA-256 and shown nowhere; without scopes they may do everything."""
    plain, hashed = "k" * 32, "AB" * 32
    digest = hashlib.sha256(plain.encode()).hexdigest()

    settings = load({"GOPHER_API_KEYS": f"{plain}:submit+read, sha256:{hashed}"})

    assert [(key.digest, key.scopes) for key in settings.api_keys] == [
        (digest, ("submit", "read")),
        (hashed.lower(), ("admin",)),
    ]
    assert load(toml=f'api_keys = ["{plain}"]').api_keys[0].scopes == ("admin",)
    assert settings.describe()["api_keys"].value == "***"
    assert plain not in f"{settings!r} {settings.describe()} {pickle.dumps(settings)!r}"
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert Settings(api_keys=settings.api_keys).api_keys == settings.api_keys


def test_tls_needs_both_files() -> None:
    """A certificate without its key, or a key alone, is a slip and not plain HTTP."""
    both = load({"SERVER_TLS_CERT": "/tls.crt", "SERVER_TLS_KEY": "/tls.key"}).server

    assert (both.tls_cert, both.tls_key) == (Path("/tls.crt"), Path("/tls.key"))
    with pytest.raises(SettingError, match="SERVER_TLS_CERT needs SERVER_TLS_KEY; set both"):
        load({"SERVER_TLS_CERT": "/tls.crt"})
    with pytest.raises(SettingError, match="SERVER_TLS_KEY needs SERVER_TLS_CERT; set both"):
        load({"SERVER_TLS_KEY": "/tls.key"})


# Contradictions


def test_two_names_of_one_setting_may_not_differ() -> None:
    """Two spellings of one setting with different values are an error that names both; equal ones are none."""
    with pytest.raises(SettingError, match=r'WORKER_CONCURRENCY="5" and WORKER_NUM_WORKERS="6" are two names'):
        load({"WORKER_CONCURRENCY": "5", "WORKER_NUM_WORKERS": "6"})
    with pytest.raises(SettingError, match=r'WORKER_MAX_RETRIES="1" and WORKER_RETRY_ATTEMPTS="2" are two names'):
        load({"WORKER_MAX_RETRIES": "1", "WORKER_RETRY_ATTEMPTS": "2"})

    assert load({"WORKER_CONCURRENCY": "5", "WORKER_MAX_CONCURRENCY": "5 "}).worker.concurrency == 5


def test_the_retry_cap_holds_the_base() -> None:
    """A cap below the base would make the base a lie."""
    with pytest.raises(SettingError, match="WORKER_RETRY_CAP=1s must not be below WORKER_RETRY_BASE=2s"):
        load({"WORKER_RETRY_CAP": "1s"})


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"REDIS_URL": "redis://:one@h", "REDIS_PASSWORD": "two"}, "REDIS_PASSWORD is not the password"),
        ({"REDIS_URL": "redis://h/1", "REDIS_DB": "2"}, "REDIS_DB=2 is not the database"),
        ({"REDIS_URL": "unix:///s?db=1", "REDIS_DB": "2"}, "REDIS_DB=2 is not the database"),
    ],
)
def test_the_redis_url_is_not_contradicted(environ: Mapping[str, str], complaint: str) -> None:
    """Password and database may stand in the URL or beside it, and must agree if they stand in both."""
    with pytest.raises(SettingError, match=complaint) as caught:
        load(environ)
    assert "one" not in str(caught.value).replace("keep one", "")


def test_the_redis_url_may_be_repeated() -> None:
    """What stands in both places and agrees is no contradiction."""
    settings = load({"REDIS_URL": "redis://:p%40@h/1", "REDIS_PASSWORD": "p@", "REDIS_DB": "1"})
    assert settings.redis.db == 1


# The model


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are fixed at the start, whatever becomes of the working directory."""
    monkeypatch.setenv("HOME", "/home/me")

    assert tmp_path / ".data" == load().data_dir
    assert tmp_path / "here" == load({"GOPHER_DATA_DIR": "here"}).data_dir
    assert Path("/home/me/x") == load({"GOPHER_DATA_DIR": "~/x"}).data_dir


def test_files_live_in_the_data_directory(tmp_path: Path) -> None:
    """The files' root follows the data directory, unless it is set."""
    assert tmp_path / ".data/files" == load().files.root
    assert Path("/srv/files") == load({"GOPHER_DATA_DIR": "/srv"}).files.root
    assert Path("/pictures") == load({"GOPHER_DATA_DIR": "/srv", "FILES_ROOT": "/pictures"}).files.root
    assert Path("/srv/files") == Settings(data_dir=Path("/srv")).files.root
    assert Path("/pictures") == Settings(data_dir=Path("/srv"), files=FilesSettings(root=Path("/pictures"))).files.root


def test_settings_are_fixed_and_checked() -> None:
    """Settings made in code are checked like written ones, and none can be changed."""
    settings = Settings(worker=WorkerSettings(concurrency=2, lease=1.0))

    with pytest.raises(ValidationError, match="frozen"):
        settings.worker.concurrency = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="must be a duration from 1s to 1h"):
        WorkerSettings(lease=0.5)
    with pytest.raises(ValidationError, match="redis://HOST"):
        RedisSettings(url="nowhere")


def test_settings_travel_to_other_processes() -> None:
    """Handlers in processes of their own are given the same settings."""
    settings = load({"WORKER_CONCURRENCY": "7", "SMTP_PASSWORD": "hunter2"})
    copy = pickle.loads(pickle.dumps(settings))

    assert copy == settings
    assert copy.describe() == settings.describe()


def test_the_description_is_json() -> None:
    """Every description can be printed as JSON, durations and weights as a user would write them."""
    described = {path: entry.value for path, entry in load({"WEBHOOK_ALLOW": "10.0.0.0/8"}).describe().items()}

    assert json.loads(json.dumps(described)) == described
    assert described["worker.job_timeout"] == "5m"
    assert described["worker.weights"] == {"urgent": 8, "high": 4, "normal": 2, "low": 1}
    assert described["webhook.allow"] == ["10.0.0.0/8"]


def test_every_setting_says_why() -> None:
    """Each setting has a sentence for help and documentation, and names that no other has."""
    assert all(entry.description.endswith(".") for entry in SETTINGS)
    for names in ([name for entry in SETTINGS for name in entry.env], [entry.flag for entry in SETTINGS]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("redis", "expected"),
    [
        ({"url": "redis://h:1/2"}, "redis://h:1/2"),
        ({"url": "redis://h:1", "password": "p@ss/word", "db": 3}, "redis://:p%40ss%2Fword@h:1?db=3"),
        ({"url": "rediss://user@h:1", "password": "x"}, "rediss://user:x@h:1"),
        ({"url": "redis://user:x@h:1", "password": "x"}, "redis://user:x@h:1"),
        ({"url": "unix:///run/s.sock"}, "unix:///run/s.sock"),
        ({"url": "unix:///run/s.sock", "db": 1}, "unix:///run/s.sock?db=1"),
        ({"url": "unix:///run/s.sock", "password": "x", "db": 1}, "unix://:x@/run/s.sock?db=1"),
        ({}, None),
    ],
)
def test_connection_url_holds_password_and_database(redis: dict[str, object], expected: str | None) -> None:
    """Whoever opens the store needs only this one text."""
    flags = {f"redis.{name}": value for name, value in redis.items()}

    assert Settings.load(flags, {}).redis.connection_url == expected
