"""The page, run by Streamlit's AppTest on a live view and a history that the test holds in its hands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import fleet_page, views
from dashboard import sources as wiring
from dashboard.live import Arrival, Board, fold
from dashboard.reads import AnomalyRow, History, HistoryRow
from fleetwatch.errors import TransientError
from fleetwatch.records import Severity, to_millis
from tests.unit.dashboard.factories import alert, detection, reading

SCRIPT = Path(dashboard.__file__).parent / "app.py"


@dataclass
class HeldLive:
    """A live view that stands still."""

    board: Board = field(default_factory=Board)
    problems: tuple[str, ...] = ()
    is_running: bool = True

    def stop(self):
        self.is_running = False


@dataclass
class HeldPast:
    """A history of what it was given."""

    stored: dict[str, History] = field(default_factory=dict)
    problem: str = ""
    asked: list[tuple[str, timedelta]] = field(default_factory=list)

    def history(self, device_id, span):
        self.asked.append((device_id, span))
        if self.problem:
            raise TransientError(self.problem)
        return self.stored.get(device_id)

    def sensor_names(self):
        if self.problem:
            raise TransientError(self.problem)
        return list(self.stored)

    def close(self):
        pass


@pytest.fixture
def held(monkeypatch):
    sources = wiring.Sources(live=HeldLive(), past=HeldPast())
    monkeypatch.setattr(wiring, "open_sources", lambda: sources)
    for cached in (wiring.sources, fleet_page._history, fleet_page._cached_names):
        cached.clear()
    yield sources
    wiring.sources.clear()
    assert not sources.live.is_running, "letting go of the sources stops the tail"


def now():
    return datetime.now(UTC)


def board_of(*events):
    return fold(Board(), [Arrival(event, to_millis(now())) for event in events])


def stored(device_id, *, anomalies=1):
    return History(
        device_id=device_id,
        sensor_type="temperature",
        site="north",
        unit="°C",
        start=now() - timedelta(minutes=15),
        end=now(),
        rows=tuple(HistoryRow(now() - timedelta(seconds=9 - n), n, n, n, 0.1, 0.2, 1) for n in range(9)),
        anomalies=tuple(AnomalyRow(now(), 99.0, 0.9) for _ in range(anomalies)),
        step=None,
    )


def run(**query):
    page = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    check(page)
    return page


def check(page):
    assert not page.exception
    assert not page.error


def html_of(page):
    return "\n".join(element.proto.body for element in page.get("html"))


def test_without_devices_the_page_says_what_to_do(held):
    html = html_of(run())
    assert "No device has reported yet." in html
    assert "fleetwatch up" in html
    assert "No open alert." in html


def test_cards_headlines_and_alerts_are_shown(held):
    held.live.board = board_of(
        reading("pump-1", at=now(), value=42.5),
        reading("pump-2", at=now()),
        detection("cam-1", at=now(), label="forklift"),
        alert("x", at=now(), device_id="pump-2", severity=Severity.CRITICAL, summary="too hot for a minute"),
    )
    html = html_of(run())
    assert html.index('data-device="pump-2"') < html.index('data-device="pump-1"'), "the neediest comes first"
    for text in ("42.50", "last: forklift", "too hot for a minute", "● Live", "1 critical"):
        assert text in html


def test_the_neediest_device_is_shown_when_none_is_chosen(held):
    held.live.board = board_of(reading("pump-1", at=now()), reading("pump-2", at=now()), alert("x", device_id="pump-2"))
    held.past.stored = {"pump-2": stored("pump-2")}
    page = run()
    assert 'data-history="pump-2"' in html_of(page)
    assert len(page.get("vega_lite_chart")) == 2


def test_a_click_on_a_card_shows_that_device_and_keeps_it_in_the_address(held):
    held.live.board = board_of(reading("pump-1", at=now()), reading("pump-2", at=now()))
    held.past.stored = {"pump-1": stored("pump-1"), "pump-2": stored("pump-2")}
    page = run()
    page.button(key="show pump-2").click().run()
    check(page)
    assert page.selectbox(key="device").value == "pump-2"
    assert 'data-history="pump-2"' in html_of(page)
    assert page.query_params["device"] == "pump-2"


def test_the_address_chooses_device_and_range(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.past.stored = {"old-9": stored("old-9")}
    page = run(device="old-9", range="6 h")
    assert 'data-history="old-9"' in html_of(page)
    assert held.past.asked[-1] == ("old-9", timedelta(hours=6))


def test_a_device_of_which_nothing_is_stored(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    assert "No reading of <b>pump-1</b> is stored" in html_of(run(device="pump-1"))


def test_filters_narrow_the_fleet(held):
    held.live.board = board_of(reading("pump-1", at=now()), reading("fan-2", at=now(), site="south", sensor_type="rpm"))
    page = run()
    assert page.multiselect(key="site").options == ["north", "south"]
    page.multiselect(key="site").select("south").run()
    check(page)
    html = html_of(page)
    assert 'data-device="fan-2"' in html
    assert 'data-device="pump-1"' not in html
    assert "1 of 2 sensors" in html
    page.text_input(key="search").input("nothing").run()
    check(page)
    assert "No device matches these filters." in html_of(page)


def test_the_number_of_cards_is_bounded_and_the_rest_is_counted(held):
    held.live.board = board_of(*(reading(f"pump-{n}", at=now()) for n in range(views.MAX_CARDS + 7)))
    html = html_of(run())
    assert html.count("data-device=") == views.MAX_CARDS
    assert "and 7 more devices" in html


def test_an_unreachable_database_is_one_line_and_the_rest_works(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.past.problem = "The database is not reachable: no history until it is back."
    html = html_of(run())
    assert html.count("The database is not reachable") == 1
    assert 'data-device="pump-1"' in html


def test_an_unreachable_broker_is_said_on_top(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.live.problems = ("Kafka is not reachable at broker:9092: the figures stand still until it is back.",)
    html = html_of(run())
    assert "▲ Interrupted" in html
    assert "Kafka is not reachable at broker:9092" in html
    assert 'data-device="pump-1"' in html


def test_history_is_asked_once_for_many_visitors(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.past.stored = {"pump-1": stored("pump-1")}
    began = time.monotonic()
    for _ in range(3):
        run(device="pump-1")
    took = time.monotonic() - began
    assert len(held.past.asked) <= 1 + took / 1.5
