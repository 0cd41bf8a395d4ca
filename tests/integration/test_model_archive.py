"""Models in the database, from which a host fetches what its disk lacks, and histories to train on."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from pydantic import SecretStr

from fleetwatch import avro, topics
from fleetwatch.errors import EnvironmentProblemError, TransientError
from fleetwatch.records import ModelStatus, ModelVersion
from sinks.migrate import migrate
from streams import model_training
from streams.features import COUNT
from streams.model_archive import ModelArchive
from streams.model_desk import ModelDesk
from streams.model_feed import ModelFeed
from streams.registry import ModelRegistry
from streams.training_sample import Sample
from tests.faults.models import Commands
from tests.services import free_port, wait_until
from tests.unit.sinks.samples import NOW, scored, stretch

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def kind() -> str:
    return f"kind-{uuid.uuid4().hex[:8]}"


def sample(seed: int = 0, rows: int = 400) -> Sample:
    made = np.random.default_rng(seed).normal(0.5, 0.1, (rows, COUNT)).clip(0, 1)
    return Sample(made, np.arange(rows) * 1000)


def on_host(settings: Settings, folder: Path, url: str) -> Settings:
    """The settings of a host with a disk of its own."""
    return settings.model_copy(update={"models_dir": folder, "database_url": SecretStr(url)})


def feed_of(settings: Settings) -> ModelFeed:
    archive = ModelArchive.of(settings)
    feed = ModelFeed(settings, ModelRegistry(settings.models_dir, archive), archive)
    feed.start()
    return feed


def test_the_database_keeps_artefacts_and_the_newest_status(postgres_url: str, kind: str) -> None:
    archive = ModelArchive(SecretStr(postgres_url))
    trained = model_training.train(kind, sample().rows, NOW)
    with pytest.raises(TransientError, match="sink migrate"):
        archive.put(trained.record, trained.artefact)
    migrate(postgres_url)
    assert archive.get(kind, trained.record.version) is None
    archive.put(trained.record, trained.artefact)
    active = replace(trained.record, status=ModelStatus.ACTIVE, changed_at=NOW + timedelta(minutes=1))
    archive.put(active, None)
    archive.put(trained.record, trained.artefact)  # an older status comes late
    found = archive.get(kind, trained.record.version)
    assert found is not None
    facts, artefact = found
    assert artefact == trained.artefact
    assert (facts["status"], facts["fingerprint"]) == ("ACTIVE", trained.record.fingerprint)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE model_versions SET artefact = 'damaged'")
    assert archive.get(kind, trained.record.version) is None


def test_a_database_that_is_away_is_one_line(kind: str) -> None:
    archive = ModelArchive(SecretStr(f"postgresql://postgres:secret@127.0.0.1:{free_port()}/x"))
    with pytest.raises(TransientError) as caught:
        archive.get(kind, "v")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_stays_away_costs_no_memory(settings: Settings, tmp_path: Path) -> None:
    """Also where the garbage collector seldom comes by, as in a worker: it is tried again every minute, for ever."""
    here = on_host(settings, tmp_path, f"postgresql://postgres@127.0.0.1:{free_port()}/x")
    registry = ModelRegistry(tmp_path)
    records = [registry.train(name, sample().rows, NOW)[0] for name in ("one", "two")]
    feed = ModelFeed(here, registry, ModelArchive.of(here))
    size = len(registry.artefact(records[0]) or b"")
    assert size > 100_000
    assert feed._archived(records) == records
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(10):
            assert feed._archived(records) == records
        assert tracemalloc.get_traced_memory()[0] < size
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_host_fetches_what_another_one_trained(
    settings: Settings, postgres_url: str, tmp_path: Path, kind: str
) -> None:
    """Nothing is common to the two but broker and database; afterwards the disk is enough."""
    migrate(postgres_url)
    there = on_host(settings, tmp_path / "there", postgres_url)
    here = on_host(settings, tmp_path / "here", postgres_url)
    ((_, record),) = ModelDesk(there).train({kind: sample()}, [kind], NOW)
    assert isinstance(record, ModelVersion)
    with closing(feed_of(here)) as feed:
        wait_until(lambda: kind in feed.current.models, what="the model is fetched")
        model = feed.current.models[kind]
    x = sample(9).rows
    there_model = ModelRegistry(there.models_dir).load_active()[kind]
    assert model.version == record.version
    assert np.array_equal(model.forest.score(x), there_model.forest.score(x))
    away = on_host(settings, tmp_path / "here", f"postgresql://postgres@127.0.0.1:{free_port()}/x")
    assert ModelRegistry(away.models_dir, ModelArchive.of(away)).load(kind, record.version) is not None


def test_a_model_that_cannot_be_had_leaves_the_one_before_in_force(
    settings: Settings, tmp_path: Path, kind: str
) -> None:
    """Until it can be had: then it comes in force by itself."""
    there, here = (settings.model_copy(update={"models_dir": tmp_path / name}) for name in ("there", "here"))
    ((_, first),) = ModelDesk(there).train({kind: sample(1)}, [kind], NOW)
    shutil.copytree(there.models_dir, here.models_dir)
    ((_, second),) = ModelDesk(there).train({kind: sample(2)}, [kind], NOW + timedelta(hours=1), promote=True)
    assert isinstance(first, ModelVersion)
    assert isinstance(second, ModelVersion)
    counted: list[str] = []
    feed = ModelFeed(here, ModelRegistry(here.models_dir), None, counted.append)
    feed.start()
    with closing(feed):
        wait_until(lambda: "models_missing" in counted, what="the newer model is missed")
        assert feed.current.models[kind].version == first.version
        shutil.copytree(there.models_dir, here.models_dir, dirs_exist_ok=True)
        wait_until(lambda: feed.current.models[kind].version == second.version, what="it is found")


def test_what_the_disk_has_in_force_is_announced_where_the_topic_has_not_heard_of_it(
    settings: Settings, kind: str
) -> None:
    record, _ = ModelRegistry(settings.models_dir).train(kind, sample().rows, NOW)
    with closing(feed_of(settings)) as feed:
        assert feed.is_caught_up.wait(20)
        wait_until(lambda: kind in feed.current.models, what="the topics are read")
        ((topic, key, value),) = [message for message in feed.messages() if kind.encode() in (message[1] or b"")]
    assert (topic, key) == (topics.MODELS, f"{kind}/{record.version}".encode())
    assert avro.decode(value, ModelVersion) == record
    assert feed.messages() == []


def test_a_first_model_of_a_type_that_has_one_meanwhile_becomes_a_shadow(
    settings: Settings, tmp_path: Path, kind: str
) -> None:
    ((_, first),) = ModelDesk(settings).train({kind: sample(1)}, [kind], NOW)
    assert isinstance(first, ModelVersion)
    elsewhere = settings.model_copy(update={"models_dir": tmp_path / "elsewhere"})
    registry = ModelRegistry(elsewhere.models_dir)
    feed = ModelFeed(elsewhere, registry, None)
    record, model = registry.train_first(kind, sample(2).rows, NOW + timedelta(minutes=1))
    feed.start()
    with closing(feed):
        assert feed.is_caught_up.wait(20)
        feed.trained(record, model)
        (late,) = [
            avro.decode(value, ModelVersion) for _, key, value in feed.messages() if kind.encode() in (key or b"")
        ]
    assert (late.version, late.status) == (record.version, ModelStatus.SHADOW)


def test_a_first_model_is_archived_when_the_database_can_be_had(
    settings: Settings, postgres_url: str, tmp_path: Path, kind: str
) -> None:
    """The table is made after the training: it is tried again until then."""
    here = on_host(settings, tmp_path / "here", postgres_url)
    archive, registry = ModelArchive(SecretStr(postgres_url)), ModelRegistry(here.models_dir)
    feed = ModelFeed(here, registry, archive)
    feed.start()
    with closing(feed):
        assert feed.is_caught_up.wait(20)
        record, model = registry.train_first(kind, sample().rows, NOW)
        feed.trained(record, model)
        migrate(postgres_url)
        wait_until(lambda: archive.get(kind, record.version) is not None, what="it is archived")


# --- Histories


def fill(url: str, kind: str) -> None:
    """Readings of two devices in the database, as the sink writes them."""
    from sinks.timescale import TimescaleStore

    migrate(url)
    rng, store = np.random.default_rng(1), TimescaleStore(SecretStr(url))
    store.open()
    rows = [
        scored(
            device,
            number,
            sensor_type=kind,
            event_time=NOW + timedelta(seconds=number),
            ingest_time=NOW + timedelta(seconds=number),
            value=float(rng.normal()),
            source_offset=2 * number + at,
        )
        for number in range(200)
        for at, device in enumerate(("a", "b"))
    ]
    store.write(stretch(*rows), "cluster")
    store.close()


def test_train_on_the_database(settings: Settings, postgres_url: str, kind: str) -> None:
    """A version of the type and one of the fallback, from all readings and from a part of them."""
    fill(postgres_url, kind)
    commands = Commands(settings, FLEETWATCH_DATABASE_URL=postgres_url, FLEETWATCH_WARM_UP_READINGS="10")
    said = commands("train", "--from-database", "--sensor-type", kind)
    (record,) = said.facts["trained"]
    assert (said.code, said.facts["readings"], said.facts["skipped"]) == (0, 400, {})
    assert record["training_rows"] == round(0.8 * 2 * 190)
    assert record["training_from"] == (NOW + timedelta(seconds=10)).isoformat()
    assert record["status"] == "ACTIVE"
    until = (NOW + timedelta(seconds=100)).isoformat()
    said = commands("train", "--until", until, "--sensor-type", kind)
    assert said.facts["trained"][0]["training_rows"] == round(0.8 * 2 * 90)
    assert said.facts["trained"][0]["status"] == "SHADOW"
    assert 0 <= said.facts["trained"][0]["metrics"]["agreement"] <= 1
    with psycopg.connect(postgres_url) as connection:
        stored = connection.execute("SELECT status FROM model_versions ORDER BY changed_at, status").fetchall()
    assert sorted(stored) == [("ACTIVE",), ("SHADOW",)]


def test_train_on_a_csv_file(settings: Settings, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    lines = [f"{NOW + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ},{rng.normal():.3f}\n" for n in range(300)]
    (tmp_path / "past.csv").write_text("at,degrees\n" + "".join(lines))
    (tmp_path / "mapping.yaml").write_text(
        f"device: {{constant: boiler}}\ntime: {{column: at}}\nvalue: degrees\nsensor_type: {{constant: {kind}}}\n"
    )
    commands = Commands(settings)
    said = commands("train", "--from-csv", str(tmp_path / "past.csv"), "--mapping", str(tmp_path / "mapping.yaml"))
    assert {facts["sensor_type"] for facts in said.facts["trained"]} == {kind, "fallback"}
    said = commands("train", "--from-csv", str(tmp_path / "past.csv"), "--mapping", str(tmp_path / "mapping.yaml"),
                    "--since", "2026-05-04T12:04:00", "--sensor-type", kind)  # fmt: skip
    assert (said.code, list(said.facts["skipped"])) == (1, [kind])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--from-database", "--from-recording", "x"), "one of"),
        (("train", "--from-csv", "x"), "--mapping go together"),
        (("train", "--since", "yesterday"), "--since yesterday"),
        (("train", "--from-recording", "/nowhere"), "nowhere"),
        (("models", "promote", "no-such-type", "v1"), "no version v1 of no-such-type"),
    ],
)
def test_a_wrong_command_is_one_line(settings: Settings, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=words) as caught:
        Commands(settings)(*arguments)
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_go_back_to(settings: Settings) -> None:
    said = Commands(settings)("models", "rollback", "no-such-type")
    assert (said.code, said.facts["ok"]) == (1, False)
