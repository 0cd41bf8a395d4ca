"""What is known of models, from their records in any order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleetwatch.model_catalogue import Catalogue
from fleetwatch.records import ModelComparison, ModelStatus, ModelVersion

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def model(version: str, status: ModelStatus = ModelStatus.SHADOW, minutes: int = 0) -> ModelVersion:
    at = NOW + timedelta(minutes=minutes)
    return ModelVersion(
        sensor_type="temperature",
        version=version,
        algorithm="a",
        status=status,
        location="l",
        trained_at=at,
        training_rows=1,
        changed_at=at,
    )


def comparison(partition: int, *, against: str = "v1", minutes: int = 0, readings: int = 100) -> ModelComparison:
    return ModelComparison(
        sensor_type="temperature",
        version="v2",
        against=against,
        partition=partition,
        readings=readings,
        alarms=2,
        alarms_against=1,
        strange_both=3,
        strange_either=4,
        difference_sum=10.0,
        since=NOW,
        until=NOW + timedelta(minutes=minutes),
    )


def in_force(catalogue: Catalogue) -> str | None:
    active = catalogue.active("temperature")
    return None if active is None else active.version


def status(catalogue: Catalogue) -> dict[str, ModelStatus]:
    return {record.version: record.status for record in catalogue.versions("temperature")}


def test_the_order_of_messages_does_not_matter():
    """Versions have different keys, so different partitions: any order between them may be read."""
    first, second = model("v1", ModelStatus.ACTIVE), model("v2", minutes=1)
    before = Catalogue([first, second])
    promoted = before.activation(second, NOW + timedelta(minutes=2))
    records = [first, second, *promoted]
    for order in itertools.permutations(records):
        catalogue = Catalogue(order)
        assert in_force(catalogue) == "v2"
        assert status(catalogue) == {"v2": ModelStatus.ACTIVE, "v1": ModelStatus.RETIRED}


def test_the_message_that_promotes_is_enough():
    """The one that retires the version before may come later, or never."""
    first, second = model("v1", ModelStatus.ACTIVE), model("v2", minutes=1)
    promoted, _ = Catalogue([first, second]).activation(second, NOW + timedelta(minutes=2))
    catalogue = Catalogue([first, promoted])
    assert in_force(catalogue) == "v2"
    assert status(catalogue)["v1"] is ModelStatus.RETIRED


def test_rollback_goes_back_version_by_version():
    catalogue = Catalogue([model("v1", ModelStatus.ACTIVE)])
    for number in (2, 3):
        catalogue.put(model(f"v{number}", minutes=number))
        record = catalogue.find("temperature", f"v{number}")
        assert record is not None
        for change in catalogue.activation(record, NOW + timedelta(minutes=number)):
            catalogue.put(change)
    found = [in_force(catalogue)]
    for minutes in (10, 11):
        for change in catalogue.rollback("temperature", NOW + timedelta(minutes=minutes)):
            catalogue.put(change)
        found.append(in_force(catalogue))
    assert found == ["v3", "v2", "v1"]
    assert catalogue.rollback("temperature", NOW + timedelta(minutes=12)) == []


def test_a_change_is_later_than_all_before_it_whatever_the_clock_says():
    catalogue = Catalogue([model("v1", ModelStatus.ACTIVE, minutes=60), model("v2")])
    record = catalogue.find("temperature", "v2")
    assert record is not None
    for change in catalogue.activation(record, NOW):
        catalogue.put(change)
    assert in_force(catalogue) == "v2"


def test_records_without_a_time_of_change_count_from_their_training():
    """As the first version of the schema has them."""
    old = [
        replace(model(f"v{n}", ModelStatus.ACTIVE, minutes=n), changed_at=datetime(1970, 1, 1, tzinfo=UTC))
        for n in (1, 2)
    ]
    assert in_force(Catalogue(reversed(old))) == "v2"


def test_the_newest_shadow_scores_beside_the_active_one():
    catalogue = Catalogue([model("v1", ModelStatus.ACTIVE), model("v2", minutes=1), model("v3", minutes=2)])
    shadow = catalogue.shadow("temperature")
    assert shadow is not None
    assert shadow.version == "v3"
    assert catalogue.shadow("vibration") is None


def test_a_comparison_is_the_sum_over_partitions_beside_the_same_version():
    catalogue = Catalogue()
    assert catalogue.compared("temperature", "v2") is None
    catalogue.compare(comparison(0, against="v0", readings=5000))
    catalogue.compare(comparison(1, minutes=2))
    catalogue.compare(comparison(2, minutes=1))
    catalogue.compare(comparison(2, minutes=3, readings=300))
    found = catalogue.compared("temperature", "v2")
    assert found is not None
    assert (found.against, found.readings) == ("v1", 400)
    assert (found.alarm_rate, found.alarm_rate_against) == (4 / 400, 2 / 400)
    assert (found.agreement, found.difference) == (6 / 8, 20.0 / 400)
