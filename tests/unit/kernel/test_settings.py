"""Settings: defaults for a laptop, one line for a wrong value, secrets that never print."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.settings import Settings, load_settings, unknown_variables


def test_the_defaults_suit_a_laptop():
    settings = load_settings()
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.http_host == "127.0.0.1"
    assert settings.http_port == 0
    assert settings.telegram_token is None
    assert settings.telegram_chat_ids == ()


def test_a_variable_sets_its_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLEETWATCH_BOOTSTRAP_SERVERS", " kafka:9092 ")
    monkeypatch.setenv("FLEETWATCH_WINDOW_SECONDS", "2.5")
    monkeypatch.setenv("FLEETWATCH_EMBEDDED_BROKER", "true")
    monkeypatch.setenv("FLEETWATCH_TELEGRAM_CHAT_IDS", "[1, -1002]")
    settings = load_settings()
    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.window_seconds == 2.5
    assert settings.embedded_broker is True
    assert settings.telegram_chat_ids == (1, -1002)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "65536"),
        ("HTTP_PORT", "-1"),
        ("LOG_LEVEL", "loud"),
        ("SECURITY_PROTOCOL", "TLS"),
        ("PARTITIONS", "0"),
        ("WINDOW_SECONDS", "0"),
        ("WINDOW_SECONDS", "nan"),
        ("WINDOW_SECONDS", "inf"),
        ("EMBEDDED_BROKER", "perhaps"),
        ("TELEGRAM_CHAT_IDS", "1,2"),
        ("TELEGRAM_CHAT_IDS", "[1, 2"),
        ("TELEGRAM_CHAT_IDS", '{"chat": 1}'),
        ("TELEGRAM_CHAT_IDS", '[1, "two"]'),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"FLEETWATCH_{name}", value)
    with pytest.raises(EnvironmentProblemError) as error:
        load_settings()
    text = str(error.value)
    assert text.startswith(f"FLEETWATCH_{name}: ")
    assert text.endswith(" Correct or unset it.")
    assert "\n" not in text


SECRETS = {
    "SASL_PASSWORD": "sesame-1",
    "DATABASE_URL": "postgresql://u:sesame-2@db/x",
    "REDIS_URL": "redis://:sesame-3@cache",
    "TELEGRAM_TOKEN": "123:sesame-4",
}


def test_secrets_print_as_stars(monkeypatch: pytest.MonkeyPatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"FLEETWATCH_{name}", value)
    settings = load_settings()
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "sesame" not in text
    assert settings.database_url.get_secret_value() == SECRETS["DATABASE_URL"]


def test_everything_that_sounds_secret_is_secret():
    for name, value in Settings.model_fields.items():
        sounds_secret = any(word in name for word in ("password", "token", "secret", "database_url", "redis_url"))
        if sounds_secret and not name.endswith("_file"):  # where it is may be known
            assert SecretStr in (value.annotation, *getattr(value.annotation, "__args__", ()))


def test_settings_cannot_be_changed_or_misspelt():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().http_port = 80
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings(htp_port=80)


def test_every_setting_says_what_it_is_for():
    assert [name for name, value in Settings.model_fields.items() if not value.description] == []


def test_a_secret_may_be_a_file(monkeypatch, tmp_path):
    (tmp_path / "fleetwatch_telegram_token").write_text("123:secret\n")
    monkeypatch.setenv("FLEETWATCH_SECRETS_DIR", str(tmp_path))
    token = load_settings().telegram_token
    assert token is not None
    assert token.get_secret_value() == "123:secret"


def test_a_secrets_folder_that_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEETWATCH_SECRETS_DIR", str(tmp_path / "gone"))
    with pytest.raises(EnvironmentProblemError, match=r"FLEETWATCH_SECRETS_DIR: .* is no folder"):
        load_settings()


def test_misspelt_variables_are_found():
    names = ["FLEETWATCH_WINDOW_SECONDS", "FLEETWATCH_WINDOWS_SECONDS", "FLEETWATCH_SECRETS_DIR", "HOME"]
    assert unknown_variables(names) == ["FLEETWATCH_WINDOWS_SECONDS"]
