"""What the pages read from and write to, made once per server: live tail, database, watch, actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import streamlit as st

from dashboard.actions import Actions
from dashboard.database import Database
from dashboard.tail import Tail
from dashboard.watch import Watch
from fleetwatch.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from dashboard.event_reads import PastAlerts, RefusalCount, Sightings
    from dashboard.live import Board
    from dashboard.problems import Problem
    from dashboard.reads import History
    from dashboard.watch import Seen
    from fleetwatch.records import AlertAction, Severity


class Live(Protocol):
    """The live view. Pages read it at every refresh, from many threads."""

    @property
    def board(self) -> Board:
        """The newest board; never changed afterwards."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One line for each part that cannot be reached now."""

    @property
    def is_running(self) -> bool:
        """Whether it is being kept up to date."""

    def stop(self) -> None:
        """Let go of what it holds."""


class Past(Protocol):
    """The history. Pages ask at every refresh, behind a cache; every call may raise AwayError."""

    def history(self, device_id: str, span: timedelta) -> History | None:
        """Return what a device sent in this time up to its newest reading; None when it has sent nothing."""

    def sensor_names(self) -> list[str]:
        """Return the known sensors, the most recently heard first."""

    def sightings(self, camera_id: str, span: timedelta) -> Sightings | None:
        """Return what a camera saw in this time up to its newest detection; None when it has seen nothing."""

    def past_alerts(self, since: datetime, severities: Sequence[Severity]) -> PastAlerts:
        """Return the alerts that began since then and are over, the newest first."""

    def refusals(self, since: datetime) -> list[RefusalCount]:
        """Return how many dead letters there were since then, by reason."""

    def close(self) -> None:
        """Let go of what it holds."""


class Offsets(Protocol):
    """The watch over the broker and the stores. The Pipeline page asks at every refresh."""

    def seen(self) -> Seen:
        """Return what is known now; never waits."""

    def stop(self) -> None:
        """Let go of what it holds."""


class Desk(Protocol):
    """Where what people do is sent to. Asked by a click."""

    def send(self, action: AlertAction) -> None:
        """Return when it is delivered, at least once; raise AwayError otherwise."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True, slots=True)
class Sources:
    """All of them, and the language that is spoken until a visitor chooses another."""

    live: Live
    past: Past
    offsets: Offsets
    desk: Desk
    language: str = "en"

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.live.stop()
        self.offsets.stop()
        self.past.close()
        self.desk.close()


def open_sources() -> Sources:
    """Start the threads and make the pool, as the settings say. Tests put another function in its place."""
    settings = load_settings()
    tail = Tail(settings)
    tail.start()
    database = Database(settings)
    watch = Watch(settings, database.is_there)
    watch.start()
    return Sources(live=tail, past=database, offsets=watch, desk=Actions(settings), language=settings.language)


@st.cache_resource(show_spinner=False, on_release=lambda sources: sources.close())
def sources() -> Sources:
    """Return the sources of this server: the same threads and pool, however many people look."""
    return open_sources()
