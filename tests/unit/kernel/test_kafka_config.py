"""Client settings for Kafka: what a promise hangs on, and no secret in the wrong place."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import pytest
import structlog
from aiokafka import AIOKafkaProducer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from fleetwatch import kafka, topics
from fleetwatch.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_producer_loses_nothing_and_partitions_as_all_others_do():
    config = kafka.producer_config(Settings(), linger_ms=20)
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True
    assert config["partitioner"] == "consistent_random"
    assert config["linger.ms"] == 20


def test_a_consumer_commits_by_hand_from_the_beginning():
    config = kafka.consumer_config(Settings(), "group")
    assert config["group.id"] == "group"
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "earliest"
    assert "fetch.wait.max.ms" not in config
    assert kafka.consumer_config(Settings(embedded_broker=True), "group")["fetch.wait.max.ms"] == 10


def test_credentials_are_given_only_where_the_protocol_asks_for_them(tmp_path: Path):
    secret = SecretStr("sesame")
    plain = kafka.client_config(Settings(sasl_username="user", sasl_password=secret))
    assert "sesame" not in str(plain)
    sasl = kafka.client_config(
        Settings(
            security_protocol="SASL_SSL",
            sasl_username="user",
            sasl_password=secret,
            ssl_ca_file=tmp_path / "ca.pem",
        )
    )
    assert sasl["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (sasl["sasl.username"], sasl["sasl.password"]) == ("user", "sesame")
    assert sasl["ssl.ca.location"] == str(tmp_path / "ca.pem")


def test_aiokafka_gets_the_same_addresses_and_nothing_it_does_not_need():
    config = kafka.aiokafka_config(Settings(bootstrap_servers="one:9092, two:9093", sasl_username="user"))
    assert config["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert config["security_protocol"] == "PLAINTEXT"
    assert config["ssl_context"] is None
    assert not {name for name in config if name.startswith("sasl")}


@pytest.mark.parametrize(("protocol", "has_certificates"), [("SASL_PLAINTEXT", False), ("SASL_SSL", True)])
async def test_aiokafka_signs_in_as_librdkafka_does(protocol: Literal["SASL_PLAINTEXT"], has_certificates: bool):
    settings = Settings(security_protocol=protocol, sasl_username="user", sasl_password=SecretStr("sesame"))
    config = kafka.aiokafka_config(settings)
    assert (config["sasl_plain_username"], config["sasl_plain_password"]) == ("user", "sesame")
    assert config["sasl_mechanism"] == kafka.client_config(settings)["sasl.mechanism"] == "SCRAM-SHA-512"
    await AIOKafkaProducer(**config).stop()  # it knows every one of them, and checks how they fit
    context = config["ssl_context"]
    assert (context is not None) == has_certificates
    if context is not None:
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_without_a_user_sasl_is_told_nothing_rather_than_none():
    config = kafka.aiokafka_config(Settings(security_protocol="SASL_PLAINTEXT"))
    assert (config["sasl_plain_username"], config["sasl_plain_password"]) == ("", "")


def make_authority() -> bytes:
    """A certificate authority that nobody else knows, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_a_ca_file_of_ones_own_is_the_only_one_believed(tmp_path: Path):
    authority = make_authority()
    file = tmp_path / "ca.pem"
    file.write_bytes(authority)
    context = kafka.aiokafka_config(Settings(security_protocol="SSL", ssl_ca_file=file))["ssl_context"]
    assert context.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(authority.decode())]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_librdkafka_says_each_kind_of_thing_once_in_a_while(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(kafka.time, "monotonic", lambda: now)
    logger = kafka._LibrdkafkaLogger()
    with structlog.testing.capture_logs() as lines:
        for attempt in range(50):
            logger.log(logging.ERROR, "connection %d refused", attempt)
        logger.log(logging.CRITICAL, "something else")
        now += 10
        logger.log(logging.ERROR, "connection %d refused", 50)
    assert [line["text"] for line in lines] == ["connection 0 refused", "something else", "connection 50 refused"]
    assert {line["log_level"] for line in lines} == {"warning"}


def test_topics_and_groups_fit_together():
    assert len(set(topics.ALL)) == len(topics.ALL)
    assert set(topics.INPUTS) <= set(topics.ALL)
    assert set(topics.ALL) >= topics.COMPACTED
    for names in topics.READ_BY.values():
        assert set(names) <= set(topics.ALL)
