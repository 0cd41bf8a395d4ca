"""Histories to train on: a recording, or the readings of the database, as consecutive columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psycopg

from fleetwatch import columns, row_status, topics
from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.records import Reason, SensorReading, to_millis
from streams.inputs import READINGS
from streams.names import Names
from streams.training_sample import Readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pydantic import SecretStr

    from fleetwatch.recording.reader import Recording

ROWS_AT_ONCE: Final = 20_000
_WHERE: Final = """
FROM readings
WHERE (%(since)s::timestamptz IS NULL OR event_time >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR event_time < %(until)s)
"""
_COUNT: Final = f"SELECT count(*) {_WHERE}"
_READINGS: Final = f"SELECT device_id, sensor_type, event_time, seq, value {_WHERE} ORDER BY device_id, event_time, seq"


def from_recording(
    recording: Recording, since: datetime | None, until: datetime | None, max_skew_ms: int
) -> Iterator[tuple[Readings, int]]:
    """Yield what is usable of a recording's readings, in the order of arrival, and how many events were read.

    What a lane would refuse is left out.

    Raises:
        EnvironmentProblemError: the recording has no readings, or a file of it is damaged.

    """
    if topics.READINGS not in recording.topics:
        raise EnvironmentProblemError(f"{recording.folder} has no {topics.READINGS}")
    names = Names()
    for rows in recording.rows(topics.READINGS):
        batch = columns.decode_batch(rows.values(), rows.keys(), SensorReading, key_field=READINGS.device)
        values, times = batch.doubles(READINGS.value), batch.numbers("event_time")
        batch.refuse(~np.isfinite(values), Reason.NOT_A_NUMBER)
        batch.refuse(times > rows.broker_ms + max_skew_ms, Reason.TOO_FAR_AHEAD)
        usable = batch.status == row_status.OK
        if since is not None:
            usable &= times >= to_millis(since)
        if until is not None:
            usable &= times < to_millis(until)
        chosen = np.flatnonzero(usable)
        devices, _, kinds = names.rows(batch, chosen, READINGS)
        kind_names = [names.kinds.name(number).decode() for number in range(names.kinds.count)]
        channels = names.pairs.pair_rows(devices, kinds)
        seqs = batch.numbers("seq")[chosen]
        yield Readings(kind_names, devices, channels, kinds, times[chosen], seqs, values[chosen]), len(rows)


def count_in_database(url: SecretStr, since: datetime | None, until: datetime | None) -> int:
    """Return how many readings the database has. Errors as of ``from_database``."""
    with _connect(url) as connection:
        found = _execute(connection, _COUNT, since, until).fetchone()
        return int(found[0]) if found else 0


def from_database(url: SecretStr, since: datetime | None, until: datetime | None) -> Iterator[tuple[Readings, int]]:
    """Yield the database's readings, device after device in the order of event time, and how many they are.

    Raises:
        EnvironmentProblemError: the database cannot be read; the text says why.

    """
    kinds: dict[str, int] = {}
    devices: dict[str, int] = {}
    channels: dict[tuple[str, str], int] = {}
    with _connect(url) as connection, connection.cursor("fleetwatch_train") as cursor:
        _execute(cursor, _READINGS, since, until)
        while rows := _fetch(cursor):
            yield (
                Readings(
                    devices=np.array([devices.setdefault(row[0], len(devices)) for row in rows], np.int64),
                    channels=np.array([channels.setdefault(row[:2], len(channels)) for row in rows], np.int64),
                    kinds=np.array([kinds.setdefault(row[1], len(kinds)) for row in rows], np.int64),
                    times=np.array([to_millis(row[2]) for row in rows], np.int64),
                    seqs=np.array([row[3] for row in rows], np.int64),
                    values=np.array([row[4] for row in rows], np.float64),
                    names=list(kinds),
                ),
                len(rows),
            )


def _connect(url: SecretStr) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(url.get_secret_value(), connect_timeout=5, application_name="fleetwatch-train")
    except psycopg.Error as error:
        raise _problem(error) from None


def _execute(on: Any, query: str, since: datetime | None, until: datetime | None) -> Any:
    try:
        return on.execute(query.encode(), {"since": since, "until": until})
    except psycopg.Error as error:
        raise _problem(error) from None


def _fetch(cursor: Any) -> list[tuple[Any, ...]]:
    try:
        return list(cursor.fetchmany(ROWS_AT_ONCE))
    except psycopg.Error as error:
        raise _problem(error) from None


def _problem(error: psycopg.Error) -> EnvironmentProblemError:
    text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
    return EnvironmentProblemError(f"cannot read the history of FLEETWATCH_DATABASE_URL: {text[:300]}")
