"""The setting `push`: job types and the endpoints that they are sent to."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr

from gopher_node.errors import SettingError
from gopher_node.settings import PushTarget, Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the checkout, so that no configuration file is found by chance."""
    monkeypatch.chdir(tmp_path)


def load(text: str, **environ: str) -> Settings:
    config = Path("node.toml")
    config.write_text(text)
    return Settings.load({}, environ, config)


def test_table_holds_urls_and_options() -> None:
    """A URL alone, or a table in which everything but the URL may be left out."""
    settings = load("""
        [push]
        resize = "https://example.org/resize"
        "shop.mail" = { url = "http://10.0.0.1:9/", secret = "s3cret", sign = false, timeout = "1m", concurrency = 5 }
        """)

    assert settings.push == {
        "resize": PushTarget(url="https://example.org/resize"),
        "shop.mail": PushTarget(
            url="http://10.0.0.1:9/", secret=SecretStr("s3cret"), sign=False, timeout=60.0, concurrency=5
        ),
    }
    plain = settings.push["resize"]
    assert (plain.secret, plain.sign, plain.timeout, plain.concurrency) == (None, True, None, None)


def test_table_may_be_a_section_of_its_own() -> None:
    """As TOML allows for longer ones."""
    settings = load('[push.resize]\nurl = "https://example.org/"\ntimeout = 2')
    assert settings.push == {"resize": PushTarget(url="https://example.org/", timeout=2.0)}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a=https://x.org/", {"a": "https://x.org/"}),
        (" a = https://x.org/ , b=http://127.0.0.1:1 ", {"a": "https://x.org/", "b": "http://127.0.0.1:1"}),
        ("a=https://x.org/?c=1,2&d=3,b=https://y.org", {"a": "https://x.org/?c=1,2&d=3", "b": "https://y.org"}),
        ("a=https://x.org/,b=2", {"a": "https://x.org/,b=2"}),
    ],
)
def test_environment_holds_pairs(written: str, expected: dict[str, str]) -> None:
    """A comma ends a URL only where the next pair begins. What the environment says, the file does not add to."""
    settings = load('[push]\nc = "https://z.org"', GOPHER_PUSH=written)

    assert {type: target.url for type, target in settings.push.items()} == expected
    assert settings.describe()["push"].source == "GOPHER_PUSH"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('"a b" = "https://x.org"', "'a b' is no job type"),
        ("a = 5", 'a must be a URL or a table such as { url = "https://…", timeout = "30s" }'),
        ('a = ["https://x.org"]', "a must be a URL or a table"),
        ('a = "ftp://s3cret.org"', "a.url must be a URL such as https://"),
        ("a = {}", "a.url must be given"),
        ('a = { url = "https://x.org/s3cret", retries = 5 }', "a.retries is not an option: they are url, secret, sign"),
        ('a = { url = "https://x.org/s3cret", timeout = 0 }', "a.timeout must be a duration from 1ms"),
        ('a = { url = "https://x.org/s3cret", concurrency = 0 }', "a.concurrency must be a whole number from 1 to"),
        ('a = { url = "https://x.org/s3cret", sign = "maybe" }', "a.sign must be true or false"),
        ('a = { url = "https://x.org/", secret = "s3cret\\n" }', "a.secret must not contain control characters"),
    ],
)
def test_what_is_wrong_is_named(line: str, complaint: str) -> None:
    """The type, the option and what it must be; never what is written there, for it may be secret."""
    with pytest.raises(SettingError, match="must name job types with their endpoints") as refused:
        load(f"[push]\n{line}")

    assert complaint in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_nothing_secret_is_shown() -> None:
    """Of an endpoint, its host is shown: paths and queries of such addresses are often secrets."""
    settings = load('[push]\na = { url = "https://x.org:8443/s3cret?token=s3cret", secret = "s3cret" }')

    assert settings.describe()["push"].value == {"a": "https://x.org:8443"}
    assert "s3cret" not in f"{settings!r} {settings} {settings.describe()} {settings.push!r}"


def test_it_travels_to_other_processes() -> None:
    """With the other settings."""
    settings = Settings(push={"a": {"url": "https://x.org", "secret": "s3cret"}})
    assert pickle.loads(pickle.dumps(settings)) == settings
