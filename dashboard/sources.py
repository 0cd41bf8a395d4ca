"""What the pages read from, made once per server: the live tail and the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import streamlit as st

from dashboard.reads import Database
from dashboard.tail import Tail
from fleetwatch.settings import load_settings

if TYPE_CHECKING:
    from datetime import timedelta

    from dashboard.live import Board
    from dashboard.reads import History


class Live(Protocol):
    """The live view. Pages read it at every refresh, from many threads."""

    @property
    def board(self) -> Board:
        """The newest board; never changed afterwards."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each part that cannot be reached now."""

    @property
    def is_running(self) -> bool:
        """Whether it is being kept up to date."""

    def stop(self) -> None:
        """Let go of what it holds."""


class Past(Protocol):
    """The history. Pages ask at every refresh, behind a cache; every call may raise TransientError."""

    def history(self, device_id: str, span: timedelta) -> History | None:
        """Return what a device sent in this time up to its newest reading; None when it has sent nothing."""

    def sensor_names(self) -> list[str]:
        """Return the known sensors, the most recently heard first."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The two, together."""

    live: Live
    past: Past

    def close(self) -> None:
        """Stop the thread and close the connections."""
        self.live.stop()
        self.past.close()


def open_sources() -> Sources:
    """Start the tail and make the pool, as the settings say. Tests put another function in its place."""
    settings = load_settings()
    tail = Tail(settings)
    tail.start()
    return Sources(live=tail, past=Database(settings))


@st.cache_resource(show_spinner=False, on_release=lambda sources: sources.close())
def sources() -> Sources:
    """Return the sources of this server: one thread and one pool, however many people look."""
    return open_sources()
