"""One frozen settings object per process, read once at its entry from ``FLEETWATCH_*`` variables and secret files.

Every setting has a default that suits ``fleetwatch up`` on a laptop. Secrets are ``SecretStr``: they print as stars.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRETS_DIR: Final = "FLEETWATCH_SECRETS_DIR"
"""Folder with a file for each secret, named as its variable in small letters: fleetwatch_telegram_token."""


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return the variables that look like settings and are none: most likely misspelt."""
    known = {f"FLEETWATCH_{name.upper()}" for name in Settings.model_fields} | {SECRETS_DIR}
    return sorted(name for name in names if name.startswith("FLEETWATCH_") and name not in known)


class Settings(BaseSettings):
    """Settings of every process; each part reads what concerns it."""

    model_config = SettingsConfigDict(
        env_prefix="FLEETWATCH_",
        frozen=True,
        extra="forbid",
        secrets_dir=None,
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )

    # Kafka
    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to Kafka."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, with SASL_* protocols."
    )
    sasl_username: str | None = Field(None, description="SASL user.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_ca_file: Path | None = Field(None, description="CA certificates for Kafka, PEM.")
    embedded_broker: bool = Field(
        default=False,
        description="The broker is librdkafka's mock cluster: it keeps little and nothing survives it.",
    )
    partitions: int = Field(4, ge=1, description="Partitions of a topic that this project creates.")
    replication: int = Field(1, ge=1, description="Replicas of a topic that this project creates.")

    schema_registry_url: str | None = Field(
        None, description="Schema registry with Confluent's API; without one ids come from `schemas/ids.json`."
    )
    schema_registry_user: str | None = Field(None, description="User at the schema registry.")
    schema_registry_password: SecretStr | None = Field(None, description="Password at the schema registry.")
    schema_registry_ca_file: Path | None = Field(None, description="CA certificates for the schema registry, PEM.")
    session_seconds: float = Field(
        10.0, ge=1, description="A consumer that is silent for so long has lost its partitions to the others."
    )

    # Stores
    database_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/fleetwatch"), description="PostgreSQL or TimescaleDB."
    )
    database_timeout_seconds: float = Field(
        60.0, gt=0, description="The database sink gives a statement up after so long, and tries it again."
    )
    retention_days: float = Field(
        90.0, ge=0, description="Readings, detections, counts and dead letters are kept so long; 0 is for ever."
    )
    rollup_retention_days: float = Field(
        730.0, ge=0, description="Counts of minutes and hours are kept so long; 0 is for ever."
    )
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Redis.")

    # Streams
    rules_file: Path | None = Field(None, description="Alert rules, YAML; the shipped rules when unset.")
    detection_file: Path | None = Field(
        None,
        description="Which detectors vote (also River's by name, slowly), and their settings by sensor type, YAML; "
        "derived when unset.",
    )
    models_dir: Path = Field(Path(".fleetwatch/models"), description="Where trained models are kept.")
    window_seconds: float = Field(10.0, ge=0.001, description="Length of a counting window, event time.")
    window_hop_seconds: float | None = Field(
        None, ge=0.001, description="From the start of one counting window to the next; as long as a window if not set."
    )
    grace_seconds: float = Field(5.0, ge=0, description="How long a closed window still accepts, event time.")
    out_of_orderness_seconds: float = Field(
        2.0, ge=0, description="How far an event may come behind the newest one of its partition."
    )
    idle_seconds: float = Field(
        15.0, gt=0, description="A partition silent for so long lets its windows close by the clock."
    )
    max_skew_seconds: float = Field(
        300.0, gt=0, description="An event further ahead of the broker's timestamp is dead-lettered."
    )
    warm_up_readings: int = Field(40, ge=1, description="Readings of a device before its scores mean something.")
    training_sample: int = Field(
        1500, ge=64, description="Readings per sensor type before the first batch model is trained."
    )
    training_first: bool = Field(
        default=True, description="Train the first batch model of a sensor type from its first settled readings."
    )
    promote_min_readings: int = Field(
        1000, ge=0, description="Readings that a shadow model must have scored before `models promote` takes it."
    )
    promote_min_agreement: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Least share of the readings strange to it or the active model that are so to both.",
    )
    promote_max_difference: float = Field(
        0.15, ge=0, le=1, description="Mean difference between its scores and the active model's, at most."
    )
    promote_max_alarm_ratio: float = Field(
        3.0, ge=1, description="How many times the active model's its alarm rate may be; 0.5 % is always allowed."
    )
    trees_by: Literal["kernel", "river"] = Field(
        "kernel", description="Half-space trees by the compiled kernel, or by River itself: the same scores, slower."
    )
    checkpoint_seconds: float = Field(1.0, gt=0, description="Time between checkpoints of the streams' state.")
    device_ttl_seconds: float = Field(
        86_400.0, gt=0, description="A device silent for so long leaves state, cache and dashboard; its history stays."
    )

    # Alerting
    telegram_token: SecretStr | None = Field(None, description="Bot token; without it alerts go to the console.")
    telegram_chat_ids: tuple[int, ...] = Field((), description="Chats that get alerts, JSON list of ids.")
    telegram_user_ids: tuple[int, ...] = Field(
        (),
        description="Who may command the bot in group chats, JSON list of user ids; a private chat listed above "
        "lists its user.",
    )
    summary_detections: int = Field(
        200,
        ge=0,
        description="A count alert of a camera with so many detections brings a status summary to Telegram; 0 never.",
    )
    telegram_api_url: str = Field("https://api.telegram.org", description="Base address of the Bot API.")

    @field_validator("window_hop_seconds")
    @classmethod
    def _no_gaps(cls, hop: float | None, info: ValidationInfo) -> float | None:
        if hop is not None and hop > info.data.get("window_seconds", hop):
            raise ValueError("longer than a window: events between two windows would be in none")
        return hop

    # People
    language: Literal["en", "he"] = Field(
        "en", description="Language of the dashboard and the bot until somebody chooses another: en or he."
    )

    # Gateway
    gateway_host: str = Field(
        "127.0.0.1", description="Where the gateway takes events in; another place than loopback needs tokens."
    )
    gateway_port: int = Field(8080, ge=0, le=65_535, description="Port of the gateway; 0 takes a free one and logs it.")
    gateway_tokens_file: Path | None = Field(
        None, description="Tokens of devices, hashed, one line each; `fleetwatch gateway token` makes one."
    )
    gateway_tokens: SecretStr | None = Field(None, description="The same lines as a variable, on top of the file.")
    gateway_max_items: int = Field(1000, ge=1, description="Events in one request to the gateway at most.")
    gateway_max_body_bytes: int = Field(1_048_576, ge=1024, description="Bytes of one request's body at most.")
    gateway_max_requests: int = Field(512, ge=1, description="Requests that the gateway works on at a time at most.")
    gateway_max_in_flight: int = Field(
        10_000,
        ge=1,
        description="Events handed to Kafka and not yet acknowledged at most; then the gateway answers 503.",
    )
    gateway_timeout_seconds: float = Field(
        10.0, ge=1, description="The gateway answers 503 for what Kafka has not acknowledged after so long."
    )

    # Every process
    http_host: str = Field("127.0.0.1", description="Where /healthz, /readyz and /metrics listen.")
    http_port: int = Field(0, ge=0, le=65_535, description="Their port; 0 takes a free one and logs it.")
    dashboard_port: int = Field(8501, ge=0, le=65_535, description="Port of the dashboard.")
    state_dir: Path = Field(Path(".fleetwatch"), description="Where `fleetwatch up` keeps its files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines are written.")


def load_settings() -> Settings:
    """Read the settings from the environment, and secrets from files below FLEETWATCH_SECRETS_DIR if that is set.

    Raises:
        EnvironmentProblemError: a variable has a value that does not fit; the text names it.

    """
    folder = os.environ.get(SECRETS_DIR)
    if folder is not None and not Path(folder).is_dir():
        raise EnvironmentProblemError(f"{SECRETS_DIR}: {folder} is no folder. Correct or unset it.")
    try:
        return Settings(_secrets_dir=folder)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name, problem = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
    except SettingsError as error:  # a list is written as JSON; the library's text is all that names the field
        name, problem = str(error).split('"')[1], "not JSON, such as [1, 2]"
    raise EnvironmentProblemError(f"FLEETWATCH_{name.upper()}: {problem}. Correct or unset it.")
