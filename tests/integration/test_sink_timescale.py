"""What only the database sink promises: offsets go with the rows, forward only, and texts that PostgreSQL lacks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pydantic import SecretStr

from fleetwatch import topics
from fleetwatch.errors import EnvironmentProblemError, TransientError
from sinks.migrate import migrate
from sinks.store import StoreEmptiedError, StoreRefusedError
from sinks.timescale import TimescaleStore
from tests.services import fresh_database
from tests.unit.sinks.samples import NOW, alert, detection, letter, scored, stretch

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

SCORED_0 = (topics.SCORED, 0)


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url)
    return database_url


@pytest.fixture
def store(url: str) -> Iterator[TimescaleStore]:
    made = TimescaleStore(SecretStr(url))
    made.open()
    yield made
    made.close()


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_offsets_are_stored_with_the_rows(store: TimescaleStore):
    store.write(stretch(scored(), scored(seq=2), first_offset=40), "c1")
    assert store.stored_offsets([SCORED_0, (topics.SCORED, 1)], "c1") == {SCORED_0: 42}


def test_a_refused_batch_stores_neither_rows_nor_offsets(store: TimescaleStore, url: str):
    with pytest.raises(StoreRefusedError):
        store.write(stretch(scored(), alert("\x00")), "c1")
    assert store.stored_offsets([SCORED_0], "c1") == {}
    assert _rows(url, "SELECT count(*) FROM readings") == [(0,)]


def test_a_key_too_long_for_its_index_is_refused(store: TimescaleStore):
    import random

    text = "".join(chr(random.Random(1).randrange(33, 126)) for _ in range(1)) + "".join(
        chr(code) for code in random.Random(2).choices(range(33, 50_000), k=9000)
    )
    with pytest.raises(StoreRefusedError):
        store.write(stretch(scored(text)), "c1")


def test_offsets_never_go_back_within_a_cluster(store: TimescaleStore):
    """A member that lost the partition and finishes late cannot move its successor back."""
    store.write(stretch(scored(), first_offset=40), "c1")
    store.write(stretch(scored(), first_offset=7), "c1")
    assert store.stored_offsets([SCORED_0], "c1") == {SCORED_0: 41}


def test_offsets_of_another_cluster_do_not_count(store: TimescaleStore):
    store.write(stretch(scored(), first_offset=40), "c1")
    assert store.stored_offsets([SCORED_0], "c2") == {}
    store.write(stretch(scored(), first_offset=3), "c2")
    assert store.stored_offsets([SCORED_0], "c2") == {SCORED_0: 4}


def test_a_forgotten_offset_starts_anew(store: TimescaleStore):
    store.write(stretch(scored(), first_offset=40), "c1")
    store.forget_offset(SCORED_0)
    assert store.stored_offsets([SCORED_0], "c1") == {}
    store.write(stretch(scored(), first_offset=3), "c1")
    assert store.stored_offsets([SCORED_0], "c1") == {SCORED_0: 4}


def test_devices_know_when_they_were_first_and_last_seen(store: TimescaleStore, url: str):
    store.write(stretch(scored(seq=5, site="new"), scored(seq=7, site="newer"), detection(seq=1)), "c1")
    store.write(stretch(scored(seq=2, site="old")), "c1")
    columns = "device_id, kind, sensor_type, site, first_seen, last_seen"
    assert _rows(url, f"SELECT {columns} FROM devices ORDER BY device_id") == [
        ("cam-1", "camera", None, "gate", NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)),
        ("press-1", "sensor", "temperature", "newer", NOW + timedelta(seconds=2), NOW + timedelta(seconds=7)),
    ]


def test_a_sensor_and_a_camera_of_one_id_are_one_device(store: TimescaleStore, url: str):
    """A box that has both: its events share a batch, and the newest says what it is."""
    store.write(stretch(scored("box-1", seq=5), detection("box-1", seq=9), scored("box-1", seq=2)), "c1")
    assert _rows(url, "SELECT device_id, kind, sensor_type, first_seen, last_seen FROM devices") == [
        ("box-1", "camera", None, NOW + timedelta(seconds=2), NOW + timedelta(seconds=9)),
    ]
    assert _rows(url, "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM detections)") == [(2, 1)]


def test_texts_are_right_in_a_database_of_another_encoding(postgres_server: str):
    """The server converts; a text that it cannot is refused, not stored as something else."""
    with fresh_database(postgres_server, encoding="LATIN1") as url:
        migrate(url)
        store = TimescaleStore(SecretStr(url))
        store.open()
        store.write(stretch(scored(unit="°C")), "c1")
        with pytest.raises(StoreRefusedError, match="22P05"):
            store.write(stretch(scored(seq=2, unit="Ω")), "c1")
        store.close()
        assert _rows(url, "SELECT unit FROM readings") == [("°C",)]


def test_writes_that_the_database_lost_are_noticed_after_a_new_connection(store: TimescaleStore, url: str):
    """As when a standby takes over that was behind: reading must go on where the rows end, not where the sink was."""
    store.stored_offsets([SCORED_0], "c1")
    store.write(stretch(scored(seq=1), first_offset=40), "c1")
    store.open()
    store.write(stretch(scored(seq=2), first_offset=41), "c1")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sink_offsets SET next_offset = 41")
        connection.execute("DELETE FROM readings WHERE seq = 2")
    store.open()
    with pytest.raises(StoreEmptiedError, match="1 partitions"):
        store.write(stretch(scored(seq=3), first_offset=42), "c1")
    assert store.stored_offsets([SCORED_0], "c1") == {SCORED_0: 41}
    store.write(stretch(scored(seq=2), scored(seq=3), first_offset=41), "c1")
    assert _rows(url, "SELECT count(*) FROM readings") == [(3,)]


def test_a_resolved_alert_keeps_its_end(store: TimescaleStore, url: str):
    store.write(stretch(alert()), "c1")
    store.write(stretch(alert(is_open=False)), "c1")
    store.write(stretch(alert()), "c1")
    assert _rows(url, "SELECT state, ended_at FROM alerts") == [("RESOLVED", NOW + timedelta(minutes=1))]


def test_a_dead_letter_keeps_any_bytes(store: TimescaleStore, url: str):
    raw = bytes(range(256)) * 256
    store.write(stretch(letter(key=b"\x00\xff", value=raw, detail="key \x00 is odd")), "c1")
    assert _rows(url, "SELECT raw_key, raw_value, detail, value_length FROM dead_letters") == [
        (b"\x00\xff", raw, "key \ufffd is odd", 65_536)
    ]


def test_the_same_place_in_a_new_broker_is_a_newer_dead_letter(store: TimescaleStore, url: str):
    store.write(stretch(letter(detail="first run")), "c1")
    store.write(stretch(letter(detail="second run", broker_time=NOW + timedelta(days=1))), "c2")
    store.write(stretch(letter(detail="first run")), "c1")
    assert _rows(url, "SELECT detail FROM dead_letters") == [("second run",)]


def test_two_stores_may_write_the_same_rows_at_once(url: str):
    """Rows are locked in one order: no deadlock."""
    from concurrent.futures import ThreadPoolExecutor

    def write(turn: int) -> None:
        own = TimescaleStore(SecretStr(url))
        own.open()
        for batch in range(5):
            records = [scored(f"press-{n}", seq=batch) for n in range(100)]
            own.write(stretch(*(records if turn else reversed(records))), "c1")
        own.close()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(2)))
    assert _rows(url, "SELECT count(*) FROM readings") == [(500,)]


def test_a_connection_cut_by_the_server_is_an_error_that_passes(store: TimescaleStore, url: str):
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'fleetwatch-sink' AND datname = current_database()"
        )
    with pytest.raises(TransientError):
        store.write(stretch(scored()), "c1")
    store.open()
    store.write(stretch(scored()), "c1")
    assert _rows(url, "SELECT count(*) FROM readings") == [(1,)]


def test_a_database_without_tables_needs_a_person(database_url: str):
    with pytest.raises(EnvironmentProblemError, match="sink migrate"):
        TimescaleStore(SecretStr(database_url)).open()
