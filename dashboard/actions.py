"""What people do about alerts goes to ``fleet.alert-actions``, delivered before the page says so."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from dashboard.problems import AwayError
from fleetwatch import avro, kafka, topics
from fleetwatch.records import Action, AlertAction

if TYPE_CHECKING:
    from datetime import datetime

    from fleetwatch.records import Alert
    from fleetwatch.settings import Settings

DELIVERY_SECONDS: Final = 5.0
LONGEST_NAME: Final = 60


def acknowledgement(alert: Alert, *, who: str, at: datetime) -> AlertAction:
    """Say that somebody takes care of an alert. The same person's second click is the same action."""
    name = " ".join(who.split())[:LONGEST_NAME] or "dashboard"
    identity = f"{Action.ACKNOWLEDGE.value}|{alert.alert_id}|{name}"
    return AlertAction(
        action_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        alert_id=alert.alert_id,
        device_id=alert.device_id,
        action=Action.ACKNOWLEDGE,
        who=name,
        at=at,
    )


class Actions:
    """Sends actions. May be used from many threads; the connection is made when first used."""

    def __init__(self, settings: Settings) -> None:
        self._config = kafka.producer_config(settings) | {"delivery.timeout.ms": int(DELIVERY_SECONDS * 1000)}
        self._producer: Any = None
        self._one_at_a_time = threading.Lock()

    def send(self, action: AlertAction) -> None:
        """Return when the broker has it.

        Raises:
            AwayError: it was not delivered. It may still have arrived: then sending it again changes nothing.

        """
        reports: list[Any] = []
        with self._one_at_a_time:
            try:
                if self._producer is None:
                    self._producer = Producer(self._config | {"error_cb": lambda _: None})
                self._producer.produce(
                    topics.ALERT_ACTIONS,
                    avro.encode(action),
                    action.alert_id.encode(),
                    on_delivery=lambda error, _: reports.append(error),
                )
                self._producer.flush(DELIVERY_SECONDS + 1)
            except (KafkaException, BufferError):
                reports = []
        if not reports or reports[0] is not None:  # a KafkaError cannot be compared with None
            raise AwayError("problem.not-delivered")

    def close(self) -> None:
        """Let go of the connection."""
        self._producer = None
