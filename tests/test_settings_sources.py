from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gopher_node.errors import SettingError
from gopher_node.settings import SETTINGS, Described, Settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the checkout, so that no configuration file is found by chance."""
    monkeypatch.chdir(tmp_path)


# Precedence


def test_precedence() -> None:
    """A flag beats the environment, which beats the file, which beats the default; each value tells its source."""
    toml = '[server]\nport = 1\nhost = "a"\nread_timeout = "1s"'
    Path("node.toml").write_text(toml)
    environ = {"SERVER_PORT": "2", "SERVER_HOST": "b"}
    settings = Settings.load({"server.port": 3}, environ, Path("node.toml"))

    described = settings.describe()
    assert described["server.port"] == Described(3, "--port")
    assert described["server.host"] == Described("b", "SERVER_HOST")
    assert described["server.read_timeout"] == Described("1s", "node.toml: server.read_timeout")
    assert described["server.write_timeout"] == Described("10s", "default")


def test_flags_that_were_not_given_say_nothing() -> None:
    """None is a flag that was not used, and flags may be nested as the settings are."""
    assert Settings.load({"role": None, "server": {"port": 1, "host": None}}, {}).server.port == 1
    with pytest.raises(SettingError, match=r"server\.prot is not a setting; did you mean server\.port\?"):
        Settings.load({"server": {"prot": 1}}, {})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment of the caller's, the process's own is read, but never by the bare constructor."""
    monkeypatch.setenv("SERVER_PORT", "4321")
    assert Settings.load().server.port == 4321
    assert Settings().server.port == 8080


def test_empty_variables_are_not_set() -> None:
    """Compose files pass empty text for what is not set."""
    settings = Settings.load({}, {"REDIS_URL": "", "WORKER_CONCURRENCY": " ", "GOPHER_CONFIG": "", "GOPHER_X": ""})
    assert settings.redis.url is None
    assert settings.worker.concurrency == 100


# The file


def test_the_file_is_found() -> None:
    """The file is the one that was named, else that of GOPHER_CONFIG, else the one in its usual place."""
    for name, port in (("flag.toml", 1), ("variable.toml", 2), ("config/gopher-node.toml", 3)):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f"[server]\nport = {port}")

    assert Settings.load({}, {"GOPHER_CONFIG": "variable.toml"}, Path("flag.toml")).server.port == 1
    assert Settings.load({}, {"GOPHER_CONFIG": "variable.toml"}).server.port == 2
    assert Settings.load({}, {}).server.port == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (b"\n[server]\nport = ?", "is not valid TOML: .*line 3"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"server = 5", r"server is a section; write \[server\]"),
        (b"[sever]\nport = 1", r"sever is not a setting; did you mean server"),
        (b"[worker]\nnum_workers = 1", r"worker\.num_workers is not a setting; did you mean worker\.concurrency\?"),
        (b"[smtp]\nfrom = 'a@b'", r"smtp\.from is not a setting; did you mean smtp\.sender\?"),
        (b"colour = 1", "colour is not a setting$"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(content: bytes | None, complaint: str) -> None:
    """A file that is missing, no TOML, or speaks of unknown settings stops the start."""
    if content is not None:
        Path("bad.toml").write_bytes(content)
    for environ, config in (({"GOPHER_CONFIG": "bad.toml"}, None), ({}, Path("bad.toml"))):
        with pytest.raises(SettingError, match=rf"bad\.toml.*{complaint}"):
            Settings.load({}, environ, config)


def test_a_byte_order_mark_is_no_error() -> None:
    """Some editors begin every file with one."""
    Path("node.toml").write_bytes(b"\xef\xbb\xbf[server]\nport = 1")
    assert Settings.load({}, {}, Path("node.toml")).server.port == 1


def test_the_committed_file_has_every_default() -> None:
    """The committed file changes nothing; without its comment signs it holds every setting with its default."""
    text = (ROOT / "config/gopher-node.toml").read_text()
    assert not any(tomllib.loads(text).values())

    shown = Settings.load({}, {}, _uncommented(text))
    defaults = Settings.load({}, {}).describe()
    for entry in SETTINGS:
        described = shown.describe()[entry.path]
        assert described.source.endswith(f": {entry.path}"), f"{entry.path} is not in the file"
        if entry.default not in (None, [], {}):
            assert defaults[entry.path].value == described.value, entry.path


def _uncommented(text: str) -> Path:
    path = Path("uncommented.toml")
    path.write_text(re.sub(r"(?m)^#(?=\w+ = )", "", text))
    return path


# Slips in names


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("GOPHER_HANDLER", "GOPHER_HANDLERS"),
        ("GOPHER_DATADIR", "GOPHER_DATA_DIR"),
        ("GOPHER_WORKER_CONCURRENCY", "WORKER_CONCURRENCY"),
        ("GOPHER_KEY", None),
        ("GOPHER_", None),
    ],
)
def test_our_own_prefix_is_strict(name: str, guess: str | None) -> None:
    """An unknown name with our own prefix stops the start, for whoever set it meant us."""
    with pytest.raises(
        SettingError, match=f"{name} is not a setting" + (rf"; did you mean {guess}\?" if guess else "")
    ):
        Settings.load({}, {name: "x"})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("WORKER_CONCURENCY", "did you mean WORKER_CONCURRENCY?"),
        ("SERVER_READTIMEOUT", "did you mean SERVER_READ_TIMEOUT?"),
        ("RETENTION_COMPLETE", "did you mean RETENTION_COMPLETED?"),
        ("SMTP_USER", "did you mean SMTP_USERNAME?"),
        ("LOG_LEVELS", "did you mean LOG_LEVEL?"),
        ("REDIS_HOST", "use REDIS_URL"),
    ],
)
def test_slips_under_shared_prefixes_are_warnings(name: str, advice: str) -> None:
    """Where other programs have names too, a likely slip is a warning."""
    (warning,) = Settings.load({}, {name: "x"}).warnings
    assert warning.startswith(f"{name} is not a setting of gopher-node and is ignored")
    assert warning.endswith(advice)


@pytest.mark.parametrize(
    "name",
    [
        "LOG_DIR",
        "LOG_FILE",
        "SERVER_NAME",
        "SERVER_SOFTWARE",
        "WORKER_ID",
        "WORKER_CONNECTIONS",
        "WEBHOOK_URL",
        "REDISTOGO",
        "FILES_DIR",
        "PAYMENT_PROVIDER",
        "GOPHERJS",
        "HOME",
        "REDIS_TLS",
    ],
)
def test_foreign_names_are_left_alone(name: str) -> None:
    """What belongs to another program is neither an error nor a warning."""
    assert not Settings.load({}, {name: "x"}).warnings


def test_service_links_of_kubernetes_are_left_alone() -> None:
    """A service named gopher, server or smtp does not keep a pod from starting."""
    address = "tcp://10.0.0.1:8080"
    settings = Settings.load(
        {},
        {
            "GOPHER_SERVICE_HOST": "10.0.0.1",
            "GOPHER_SERVICE_PORT": "8080",
            "GOPHER_SERVICE_PORT_HTTP": "8080",
            "GOPHER_PORT": address,
            "GOPHER_PORT_8080_TCP": address,
            "GOPHER_PORT_8080_TCP_ADDR": "10.0.0.1",
            "REDIS_PORT": address,
            "SERVER_PORT": address,
        },
    )

    assert settings.server.port == 8080
    assert settings.warnings == (f"SERVER_PORT={address} is what Kubernetes says about a service, and is ignored",)


def test_names_that_others_read() -> None:
    """GOPHER_VALKEY_BIN belongs to the embedded store, GOPHER_API_KEY to clients; neither is a slip."""
    assert not Settings.load({}, {"GOPHER_VALKEY_BIN": "/usr/bin/valkey-server", "GOPHER_API_KEY": "x"}).warnings


def test_importing_settings_is_light() -> None:
    """No server, client or logging library comes along, for every command reads settings."""
    heavy = {"aiohttp", "redis", "structlog", "rich", "PIL", "uvloop", "cyclopts", "httpx2"}
    script = "import sys, gopher_node.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not heavy & set(loaded.split())
