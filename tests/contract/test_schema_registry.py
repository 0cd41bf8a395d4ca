"""The registry's API, as our client and as Confluent's own client use it, against the same strict double."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from pydantic import SecretStr
from typer.testing import CliRunner

from fleetwatch import avro, columns, row_status, schema_registry, topics
from fleetwatch.cli.main import build_app
from fleetwatch.errors import EnvironmentProblemError, FleetwatchError, RefusedError, TransientError
from fleetwatch.records import Reason, SensorReading
from fleetwatch.schema_check import example
from fleetwatch.schema_registry import RegistryClient, ids_of, register_all, use_registry
from fleetwatch.settings import Settings
from tests.fakes.schema_registry import SchemaRegistryDouble
from tests.unit.kernel.test_avro import READING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
WIDER = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
OTHER = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}


class Client(Protocol):
    """What both clients can."""

    def register(self, subject: str, schema: dict[str, Any]) -> int: ...
    def find(self, subject: str, schema: dict[str, Any]) -> int | None: ...
    def schema(self, schema_id: int) -> dict[str, Any] | None: ...
    def is_compatible(self, subject: str, schema: dict[str, Any]) -> bool: ...
    def require(self, subject: str, level: str) -> None: ...


class Ours(RegistryClient):
    def is_compatible(self, subject: str, schema: dict[str, Any]) -> bool:
        return not self.incompatibilities(subject, schema)


class Theirs:
    """Confluent's client; it raises where ours returns None."""

    def __init__(self, client: SchemaRegistryClient) -> None:
        self._client = client

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        return self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))

    def find(self, subject: str, schema: dict[str, Any]) -> int | None:
        found = or_none(lambda: self._client.lookup_schema(subject, Schema(json.dumps(schema), "AVRO")))
        return None if found is None else found.schema_id

    def schema(self, schema_id: int) -> dict[str, Any] | None:
        found = or_none(lambda: self._client.get_schema(schema_id))
        return None if found is None else json.loads(found.schema_str)

    def is_compatible(self, subject: str, schema: dict[str, Any]) -> bool:
        return self._client.test_compatibility_all_versions(subject, Schema(json.dumps(schema), "AVRO"))

    def require(self, subject: str, level: str) -> None:
        self._client.set_compatibility(subject, level)


def or_none(call: Callable[[], Any]) -> Any:
    """What a call of Confluent's client gives, None where it is not found."""
    try:
        return call()
    except SchemaRegistryError as error:
        if error.http_status_code != 404:
            raise
        return None


def confluent(double: SchemaRegistryDouble) -> SchemaRegistryClient:
    """Confluent's client, to be closed: it keeps its connections."""
    return SchemaRegistryClient({"url": double.url, "max.retries": 0})


@pytest.fixture
def double() -> Iterator[SchemaRegistryDouble]:
    with SchemaRegistryDouble() as double:
        yield double


@pytest.fixture(params=["ours", "theirs"])
def client(request: pytest.FixtureRequest, double: SchemaRegistryDouble) -> Iterator[Client]:
    if request.param == "ours":
        yield Ours(double.url)
        return
    with confluent(double) as theirs:
        yield Theirs(theirs)


@pytest.fixture
def table_ids() -> Iterator[None]:
    """After the test ids come from the table again."""
    yield
    avro.use_ids({})


def test_the_same_schema_has_one_id_in_every_subject(client: Client):
    first = client.register("a-value", FIRST)
    assert client.register("a-value", FIRST) == first
    assert client.register("b-value", FIRST) == first
    assert client.find("a-value", FIRST) == first
    assert client.schema(first) == FIRST


def test_what_is_not_there_is_none(client: Client):
    assert client.find("a-value", FIRST) is None
    client.register("a-value", FIRST)
    assert client.find("a-value", WIDER) is None
    assert client.schema(77) is None


def test_a_subject_may_hold_any_character(client: Client, double: SchemaRegistryDouble):
    client.register("a/b c-value", FIRST)
    assert list(double.subjects) == ["a/b c-value"]


def test_incompatible_schemas_are_seen_before_and_refused(client: Client):
    client.register("a-value", FIRST)
    assert client.is_compatible("a-value", WIDER)
    assert not client.is_compatible("a-value", OTHER)
    with pytest.raises((EnvironmentProblemError, SchemaRegistryError), match="incompatible"):
        client.register("a-value", OTHER)


def test_compatibility_is_asked_of_all_versions(client: Client):
    """Narrowed again after it was widened: the newest would be read, the first too, the one between would not."""
    client.require("a-value", "BACKWARD_TRANSITIVE")
    client.register("a-value", FIRST)
    client.register("a-value", WIDER)
    assert not client.is_compatible("a-value", FIRST | {"doc": "again"})


# --- ours


def test_what_is_wrong_with_a_registry_is_one_line(double: SchemaRegistryDouble):
    for url, said in (("ftp://x", "does not begin with"), ("http://127.0.0.1:1", "does not answer")):
        with pytest.raises(FleetwatchError, match=said):
            RegistryClient(url, timeout=5).find("a", FIRST)
    with pytest.raises(EnvironmentProblemError, match=r"Invalid schema.*\(42201\)"):
        RegistryClient(double.url).register("a", {"type": "nothing"})
    double.down = True
    with pytest.raises(TransientError, match=r"told to be down \(50301\)"):
        RegistryClient(double.url).find("a", FIRST)


def test_credentials_are_sent():
    with SchemaRegistryDouble("me", "secret") as double:
        assert RegistryClient(double.url, user="me", password="secret").register("a", FIRST) == 1
        with pytest.raises(EnvironmentProblemError, match="Unauthorized"):
            RegistryClient(double.url).register("a", FIRST)
        settings = Settings(
            schema_registry_url=double.url, schema_registry_user="me", schema_registry_password=SecretStr("secret")
        )
        assert schema_registry.connect(settings).schema(1) == FIRST


def test_all_our_schemas_are_registered_once_and_kept_compatible(double: SchemaRegistryDouble):
    client = RegistryClient(double.url)
    ids = register_all(client)
    assert ids.keys() == avro.schema_ids().keys()
    assert ids == register_all(client) == ids_of(client)
    assert set(double.levels.values()) == {"BACKWARD_TRANSITIVE"}
    assert f"{topics.READINGS}-value" in double.subjects


@pytest.mark.usefixtures("table_ids")
def test_ids_of_a_registry_are_written_and_read(double: SchemaRegistryDouble):
    """Confluent's deserializer reads what we write, we read what its serializer writes, rows and columns alike."""
    client = RegistryClient(double.url)
    client.register("somebody-value", FIRST)  # ids are not the table's, nor in its order
    register_all(client)
    with_table = avro.encode(READING)
    use_registry(Settings(schema_registry_url=double.url))
    value = avro.encode(READING)
    assert value[:5] != with_table[:5]
    assert value[5:] == with_table[5:]
    context = SerializationContext(topics.READINGS, MessageField.VALUE)
    text = json.dumps(avro.load_schema("sensor_reading.v1"))
    with confluent(double) as theirs:
        read = AvroDeserializer(theirs)(value, context)
        write = AvroSerializer(theirs, text, conf={"auto.register.schemas": False})
        written = write(example("sensor_reading.v1"), context)
    assert (read["device_id"], read["value"]) == (READING.device_id, READING.value)
    assert isinstance(avro.decode(written, SensorReading, strict=True), SensorReading)
    batch = columns.decode_batch([value, written, with_table], [b"k"] * 3, SensorReading)
    assert batch.status.tolist()[:2] == [row_status.OK] * 2
    assert row_status.reason_of(int(batch.status[2])) is Reason.UNKNOWN_SCHEMA


@pytest.mark.usefixtures("table_ids")
def test_a_newer_version_that_is_not_known_here_is_refused_by_its_name(double: SchemaRegistryDouble):
    """A producer was upgraded first: its readings become dead letters, the others are read."""
    client = RegistryClient(double.url)
    register_all(client)
    use_registry(Settings(schema_registry_url=double.url))
    newer = avro.load_schema("sensor_reading.v1")
    newer = {**newer, "fields": [*newer["fields"], {"name": "rack", "type": "string", "default": ""}]}
    number = client.register(f"{topics.READINGS}-value", newer)
    value = b"\x00" + number.to_bytes(4, "big") + avro.encode(READING)[5:] + b"\x00"
    with pytest.raises(RefusedError, match="is not known here"):
        avro.decode(value, SensorReading)


@pytest.mark.usefixtures("table_ids")
def test_a_schema_that_is_not_registered_stops_the_process(
    double: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLEETWATCH_SCHEMA_REGISTRY_URL", double.url)
    simulate = ["simulate", "--dry-run", "--for", "0.1"]
    failed = CliRunner().invoke(build_app(), simulate)
    assert "is not registered for fleet.alerts-value: run `fleetwatch schemas register`" in str(failed.exception)
    done = CliRunner().invoke(build_app(), ["schemas", "register"])
    assert json.loads(done.stdout)["ids"].keys() == avro.schema_ids().keys()
    assert CliRunner().invoke(build_app(), simulate).exit_code == 0
    double.down = True
    assert "told to be down" in str(CliRunner().invoke(build_app(), simulate).exception)


def test_a_change_that_the_registry_refuses_is_named(double: SchemaRegistryDouble):
    """Somebody registered another schema of the same name before."""
    changed = avro.load_schema("sensor_reading.v1")
    fields = [field | {"type": "long"} if field["name"] == "unit" else field for field in changed["fields"]]
    RegistryClient(double.url).register(f"{topics.READINGS}-value", {**changed, "fields": fields})
    with pytest.raises(
        EnvironmentProblemError, match=r"refuses sensor_reading.v1.*unit: long cannot be read as string"
    ):
        register_all(RegistryClient(double.url))
