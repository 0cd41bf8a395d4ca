"""The pages, run by Streamlit's AppTest on sources that the test holds in its hands."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from dashboard import alerts_page, cameras_page, device_page, fleet_page, frame, pipeline_page, views
from dashboard import sources as wiring
from dashboard.event_reads import LabelBin, PastAlert, PastAlerts, RefusalCount, SightingRow, Sightings
from dashboard.live import Arrival, Board, fold
from dashboard.problems import Problem
from dashboard.reads import AnomalyRow, History, HistoryRow
from dashboard.watch import Seen
from fleetwatch.records import AlertState, ModelStatus, Reason, RuleKind, Severity, Stage, to_millis
from tests.unit.dashboard.factories import acknowledgement, alert, dead_letter, detection, look, model, reading
from tests.unit.dashboard.held import PAGES, HeldDesk, HeldLive, HeldOffsets, HeldPast, check, html_of, run

CACHED = (
    wiring.sources, device_page._history, device_page._cached_names, cameras_page._sightings, alerts_page._past,
    pipeline_page._reasons,
)  # fmt: skip


@pytest.fixture
def held(monkeypatch):
    sources = wiring.Sources(live=HeldLive(), past=HeldPast(), offsets=HeldOffsets(), desk=HeldDesk())
    monkeypatch.setattr(wiring, "open_sources", lambda: sources)
    for cached in CACHED:
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
        unit="Cel",
        start=now() - timedelta(minutes=15),
        end=now(),
        rows=tuple(HistoryRow(now() - timedelta(seconds=9 - n), n, n, n, 0.1, 0.2, 1) for n in range(9)),
        anomalies=tuple(AnomalyRow(now(), 99.0, 0.9) for _ in range(anomalies)),
        step=None,
    )


def sightings(camera_id):
    step = timedelta(seconds=30)
    return Sightings(
        camera_id,
        now() - step * 30,
        now(),
        step,
        (SightingRow(now(), 4711, "person", 0.9, None),),
        (LabelBin("person", now() - step, 12), LabelBin("car", now() - step, 3)),
    )


def past_alert(**changes):
    values = {
        "alert_id": "over", "rule": "too-hot", "kind": RuleKind.LEVEL, "device_id": "pump-9", "site": "north",
        "severity": Severity.CRITICAL, "state": AlertState.RESOLVED, "started_at": now() - timedelta(hours=1),
        "ended_at": now(), "value": 91.25, "threshold": 80.0, "summary": "too hot", "acknowledged_by": None,
        "acknowledged_at": None,
    }  # fmt: skip
    return PastAlert(**(values | changes))


def fill(held):
    """Something of everything."""
    held.live.board = board_of(
        reading("pump-1", at=now(), value=42.5, unit="Cel"),
        detection("cam-1", at=now(), seq=4712, label="forklift"),
        alert("open", at=now(), device_id="pump-1", severity=Severity.CRITICAL),
        alert("taken", at=now(), device_id="pump-2"),
        acknowledgement("taken", at=now()),
        model("v7", status=ModelStatus.SHADOW),
        dead_letter(at=now()),
    )
    held.past.stored = {"pump-1": stored("pump-1")}
    held.past.seen = {"cam-1": sightings("cam-1")}
    held.past.alerts = PastAlerts((past_alert(),), has_more=True)
    held.past.counts = [RefusalCount(Stage.DECODE, Reason.TRUNCATED, 3, now())]
    held.offsets.last = Seen((look(0, alerts=90, committed=80), look(4, alerts=99, committed=80)), True, True, True)


WORDS = {
    "fleet": {"en": ["42.50", "°C", "Critical", "1 critical"], "he": ["42.50", "קריטי", "טמפרטורה"]},
    "device": {"en": ["9 readings", "1 anomaly", "Newest anomalies"], "he": ["מדידות", "החריגות האחרונות"]},
    "cameras": {"en": ["4711", "4712", "forklift", "15 detections"], "he": ["4711", "4712", "מלגזה", "אדם"]},
    "alerts": {"en": ["above 80", "acknowledged by Dana", "pump-9"], "he": ["בטיפול של", "pump-9", "קריטי"]},
    "models": {"en": ["v7", "Shadow", "Mean score"], "he": ["v7", "צל", "ציון ממוצע"]},
    "pipeline": {"en": ["Truncated", "Not a number", "Database sink", "19 wait"], "he": ["קטוע", "לא מספר", "פיגור"]},
}


@pytest.mark.parametrize("language", ["en", "he"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_what_is_there_in_its_language(held, page, language):
    fill(held)
    html = html_of(run(page, lang=language))
    for word in WORDS[page][language]:
        assert word in html
    direction = "rtl" if language == "he" else "ltr"
    assert set(re.findall(r'dir="(rtl|ltr)" lang', html)) == {direction}
    assert f'data-direction="{direction}"' in html
    assert ("\u2068" in html) is (language == "he"), "ids and numbers are isolated, where it is needed"
    shown = re.sub(r"<[^>]*>", " ", html.replace("</style>", ""))
    assert not re.search(r"\{\w+\}|Traceback|None\b", shown), "no placeholder, no stack trace, no raw value"


@pytest.mark.parametrize("language", ["en", "he"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_without_anything_and_with_everything_away(held, page, language):
    held.past.problem = "problem.database"
    held.live.problems = (Problem("problem.kafka", (("servers", "broker:9092"),)), Problem("problem.redis"))
    held.offsets.last = Seen((), False, False, False)
    html = html_of(run(page, lang=language))
    assert "broker:9092" in html
    assert ("▲ Interrupted" if language == "en" else "▲ מופסק") in html
    assert html.count('class="fw-notice"') <= 3, "each problem is one line"


def test_the_language_is_that_of_the_settings_until_somebody_chooses(monkeypatch, held):
    monkeypatch.setattr(
        wiring, "open_sources", lambda: wiring.Sources(held.live, held.past, held.offsets, held.desk, language="he")
    )
    page = run()
    assert "עדיין" in html_of(page) or "אף התקן" in html_of(page)
    assert "lang" not in page.query_params
    page.get("button_group")[0].set_value("en").run()
    check(page)
    assert "No device has reported yet." in html_of(page)
    assert page.query_params["lang"] == "en"
    assert "אף התקן" in html_of(run(lang="xx")), "an unknown language is not used"


def test_without_devices_the_page_says_what_to_do(held):
    html = html_of(run())
    assert "No device has reported yet." in html
    assert "fleetwatch up" in html


def test_the_neediest_comes_first_and_a_click_leads_to_its_page(held):
    held.live.board = board_of(
        reading("pump-1", at=now()), reading("pump-2", at=now()), alert("x", device_id="pump-2", at=now())
    )
    held.past.stored = {"pump-2": stored("pump-2")}
    page = run()
    html = html_of(page)
    assert html.index('data-device="pump-2"') < html.index('data-device="pump-1"')
    page.button(key="show pump-2").click().run()
    check(page)
    assert 'data-history="pump-2"' in html_of(page)
    assert page.query_params["device"] == "pump-2"


def test_filters_narrow_the_fleet_and_stand_in_the_address(held):
    held.live.board = board_of(reading("pump-1", at=now()), reading("fan-2", at=now(), site="south", sensor_type="rpm"))
    page = run()
    assert page.multiselect(key="site").options == ["north", "south"]
    page.multiselect(key="site").select("south").run()
    check(page)
    html = html_of(page)
    assert 'data-device="fan-2"' in html
    assert 'data-device="pump-1"' not in html
    assert "1 of 2 sensors" in html
    assert page.query_params["site"] == "south"
    page.text_input(key="search").input("nothing").run()
    check(page)
    assert "No device matches these filters." in html_of(page)
    assert 'data-device="fan-2"' in html_of(run(site="south", lang="he")), "the address is the same in every language"


def test_a_standstill_of_the_streams_is_said_on_top_of_silent_devices(held):
    event = reading("pump-1", at=now() - timedelta(minutes=3))
    held.live.board = fold(Board(), [Arrival(event, to_millis(event.ingest_time))])
    html = html_of(run())
    assert re.search(r"Nothing has come out of the streams for 3(\.\d+)? min", html)  # the page takes a moment
    assert "Silent" in html


def test_the_number_of_cards_is_bounded_and_the_rest_is_counted(held, monkeypatch):
    monkeypatch.setattr(views, "MAX_CARDS", 5)
    held.live.board = board_of(*(reading(f"pump-{n}", at=now()) for n in range(12)))
    html = html_of(run())
    assert html.count("data-device=") == 5
    assert "and 7 more devices" in html


def test_the_neediest_device_is_shown_when_none_is_chosen(held):
    held.live.board = board_of(reading("pump-1", at=now()), reading("pump-2", at=now()), alert("x", device_id="pump-2"))
    held.past.stored = {"pump-2": stored("pump-2")}
    page = run("device")
    assert 'data-history="pump-2"' in html_of(page)
    assert len(page.get("vega_lite_chart")) == 2


def test_the_address_chooses_device_and_range(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.past.stored = {"old-9": stored("old-9")}
    html = html_of(run("device", device="old-9", range="6 h", lang="he"))
    assert 'data-history="old-9"' in html
    assert ("history", "old-9", timedelta(hours=6)) in held.past.asked
    run("device", device="old-9", range="6 weeks")
    assert held.past.asked[-1] == ("history", "old-9", timedelta(minutes=15)), "a range that is none is not used"


def test_a_device_of_which_nothing_is_stored(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    assert "No reading of pump-1 is stored" in html_of(run("device", device="pump-1"))


def test_history_is_asked_once_for_many_visitors(held):
    held.live.board = board_of(reading("pump-1", at=now()))
    held.past.stored = {"pump-1": stored("pump-1")}
    began = time.monotonic()
    for _ in range(3):
        run("device", device="pump-1")
    took = time.monotonic() - began
    assert len([asked for asked in held.past.asked if asked[0] == "history"]) <= 1 + took / 1.5


def test_a_click_on_a_camera_chooses_it(held):
    held.live.board = board_of(detection("cam-1", at=now()), detection("cam-2", at=now(), seq=99))
    held.past.seen = {"cam-2": sightings("cam-2")}
    page = run("cameras")
    assert "No detection of cam-1 is stored" in html_of(page)
    page.button(key="show cam-2").click().run()
    check(page)
    assert page.query_params["camera"] == "cam-2"
    assert 'data-seq="99"' in html_of(page)
    assert ("sightings", "cam-2", timedelta(minutes=15)) in held.past.asked


def test_an_acknowledgement_is_delivered_and_then_said(held):
    fill(held)
    page = run("alerts")
    page.text_input(key="who").input("Noa").run()
    page.button(key="acknowledge open").click().run()
    check(page)
    (sent,) = held.desk.sent
    assert (sent.alert_id, sent.device_id, sent.who) == ("open", "pump-1", "Noa")
    html = html_of(page)
    assert "The alert of pump-1 is acknowledged" in html
    assert 'data-alert="open" data-acknowledged="yes"' in html
    assert "acknowledged by Noa" in html
    assert not [button for button in page.button if button.key.startswith("acknowledge")]


def test_an_acknowledgement_that_is_not_delivered_is_not_shown_as_one(held):
    fill(held)
    held.desk.problem = "problem.not-delivered"
    page = run("alerts")
    page.button(key="acknowledge open").click().run()
    check(page)
    html = html_of(page)
    assert "nothing was acknowledged" in html
    assert 'data-alert="open" data-acknowledged="no"' in html
    held.desk.problem = ""
    page.button(key="acknowledge open").click().run()
    assert 'data-alert="open" data-acknowledged="yes"' in html_of(page)


def test_severities_narrow_open_and_past_alerts(held):
    fill(held)
    html = html_of(run("alerts", severity="CRITICAL", past="30 d"))
    assert 'data-alert="open"' in html
    assert 'data-alert="taken"' not in html
    _, since, severities = [asked for asked in held.past.asked if asked[0] == "alerts"][-1]
    assert severities == (Severity.CRITICAL,)
    assert timedelta(days=29, hours=23) < now() - since < timedelta(days=30, minutes=1)


@pytest.mark.parametrize("language", ["en", "he"])
def test_a_part_that_fails_is_one_line_and_the_others_go_on(held, monkeypatch, language):
    fill(held)
    monkeypatch.setattr(fleet_page.views, "headlines", lambda *_, **__: 1 / 0)
    app = run_unchecked(lang=language)
    html = html_of(app)
    assert not app.exception
    assert "ZeroDivisionError" not in html
    assert ("met an unexpected error" if language == "en" else "אירעה שגיאה לא צפויה") in html
    assert 'data-device="pump-1"' in html


def run_unchecked(**query):
    from streamlit.testing.v1 import AppTest

    from tests.unit.dashboard.held import SCRIPT

    app = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def test_links_take_along_language_and_device(held):
    fill(held)
    page = run("device", device="pump-1", lang="he")
    queries = {link.proto.page: link.proto.query_string for link in page.get("page_link")}
    assert queries["device"] == "lang=he&device=pump-1"
    assert queries["alerts"] == "lang=he"
    assert frame.REFRESH_SECONDS == 2.0
