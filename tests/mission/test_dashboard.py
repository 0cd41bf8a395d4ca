"""Mission, row "Live dashboard": six pages in a real browser that go on by themselves and lose no place."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from fleetwatch import avro, kafka, topics
from fleetwatch.records import AlertAction, Severity, Verdict
from sinks.migrate import migrate
from tests.dashboards import Feed, now, running, store, unique, visiting
from tests.unit.dashboard.factories import alert, dead_letter, detection, model, reading

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

ON_PAGES = {
    "Models": "[data-model]", "Alerts": "[data-alert]", "Cameras": "[data-camera]", "Device": "[data-history]",
    "Fleet": "[data-device]", "Pipeline": "[data-part]",
}  # fmt: skip
MAIN = "document.querySelector('[data-testid=stMain]')"


def test_every_page_is_live_and_keeps_its_place(  # noqa: PLR0915  # one visit from beginning to end
    settings: Settings, postgres_url: str, redis_url: str, chromium: str, tmp_path: Path
) -> None:
    """A reading becomes a card and its value moves on; history, choice and acknowledgement survive a reload."""
    from playwright.sync_api import expect

    migrate(postgres_url)
    sensor, other, camera, version = unique("pump"), unique("fan"), unique("cam"), unique("v")
    crowd = [unique("crowd") for _ in range(40)]
    part = sensor.split("-")[1]
    feed = Feed(settings)
    start = now()
    store(
        postgres_url,
        [
            reading(
                sensor,
                at=start - timedelta(seconds=n + 1),
                seq=1000 - n,
                verdict=Verdict.ANOMALY if n == 5 else Verdict.NORMAL,
            )
            for n in range(60)
        ],
    )
    with (
        running(settings, tmp_path / "log", DATABASE_URL=postgres_url, REDIS_URL=redis_url) as board,
        visiting(board, chromium) as visit,
    ):
        page = visit.page
        summary, alert_id = f"above the limit {uuid.uuid4().hex[:6]}", unique("alert")
        feed.send(topics.SCORED, reading(sensor, at=now(), seq=2000, value=42.25), reading(other, at=now()))
        feed.send(topics.SCORED, *(reading(name, at=now(), site="far") for name in crowd))
        feed.send(topics.DETECTIONS, *(detection(camera, at=now(), label="forklift", seq=n) for n in range(4700, 4712)))
        feed.send(
            topics.ALERTS,
            alert(alert_id, at=now(), device_id=sensor, severity=Severity.CRITICAL, summary=summary),
        )
        kind = unique("kind")  # models of other tests are in the topic too
        feed.send(topics.MODELS, model(version, sensor_type=kind), key=f"{kind}/{version}")
        feed.send(topics.DEAD_LETTERS, dead_letter(detail=summary, at=now()))

        # Fleet: a value moves on without a reload, filter and scroll position stay
        visit.open("")
        page.get_by_placeholder("Part of a device id").fill(part)
        page.keyboard.press("Enter")
        card = page.locator(f"[data-device='{sensor}']")
        expect(card).to_contain_text("42.25", timeout=20_000)
        expect(card).to_contain_text("Critical")
        expect(page.locator(".fw-card")).to_have_count(1)
        page.wait_for_url(f"**search={part}**", timeout=10_000)
        page.get_by_placeholder("Part of a device id").fill("")
        page.keyboard.press("Enter")
        expect(page.locator(".fw-card").nth(30)).to_be_visible(timeout=10_000)
        page.set_viewport_size({"width": 1400, "height": 600})
        page.evaluate(f"window.sameVisit = true; {MAIN}.scrollTop = 200")
        assert page.evaluate(f"{MAIN}.scrollTop") == 200
        feed.send(topics.SCORED, reading(sensor, at=now(), seq=2001, value=43.75))
        expect(card).to_contain_text("43.75", timeout=10_000)
        assert page.evaluate("window.sameVisit"), "the value changed without a reload"
        assert page.evaluate(f"{MAIN}.scrollTop") == 200

        # Device: history from the database, which a reload keeps
        page.get_by_role("button", name=f"Show the history of {sensor}").click()
        history = page.locator(f"[data-history='{sensor}']")
        expect(history).to_contain_text("60 readings", timeout=15_000)
        expect(history).to_contain_text("1 anomaly")
        expect(page.locator("[data-testid='stVegaLiteChart']")).to_have_count(2, timeout=20_000)
        page.wait_for_url(f"**/device?device={sensor}", timeout=10_000)
        store(postgres_url, [reading(sensor, at=now(), seq=3000)])
        expect(history).to_contain_text("61 readings", timeout=10_000)
        assert page.evaluate("window.sameVisit"), "another page and a newer history came without a reload"
        page.reload()
        expect(history).to_contain_text("61 readings", timeout=20_000)
        assert page.evaluate("window.sameVisit") is None

        # Cameras: the last ten detections with their sequence ids
        page.get_by_role("link", name="Cameras").click()
        page.get_by_role("button", name=f"Show the detections of {camera}").click()
        expect(page.locator("[data-seq='4711']")).to_contain_text("forklift", timeout=10_000)
        expect(page.locator("[data-seq]")).to_have_count(10)
        page.wait_for_url(f"**camera={camera}**", timeout=10_000)

        # Alerts: an acknowledgement is in Kafka when the page says so, and is there after a reload
        page.get_by_role("link", name="Alerts").click()
        page.get_by_placeholder("Part of a device id").fill(part)
        page.keyboard.press("Enter")
        row = page.locator(f"[data-alert='{alert_id}']")
        expect(row).to_contain_text(summary, timeout=10_000)
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text(f"The alert of {sensor} is acknowledged")).to_be_visible(timeout=10_000)
        assert [action.who for action in actions_of(settings, alert_id)] == ["dashboard"]
        page.reload()
        expect(row).to_have_attribute("data-acknowledged", "yes", timeout=15_000)

        # Models and Pipeline
        page.get_by_role("link", name="Models").click()
        expect(page.locator(f"[data-model='{version}']")).to_contain_text("Active", timeout=10_000)
        page.get_by_role("link", name="Pipeline").click()
        expect(page.get_by_text(summary)).to_be_visible(timeout=10_000)
        expect(page.locator("[data-part='kafka']")).to_contain_text("OK", timeout=15_000)
        expect(page.locator("[data-part='database']")).to_contain_text("OK")
        expect(page.locator(f"[data-lag='{topics.GROUP_ALERTING} {topics.ALERTS}']")).to_be_visible()

        # a phone: nothing is wider than it
        page.set_viewport_size({"width": 420, "height": 900})
        for name, content in ON_PAGES.items():
            page.get_by_role("link", name=name).click()
            page.locator(content).first.wait_for(timeout=10_000)
            page.wait_for_function(f"{MAIN}.scrollWidth <= 420", timeout=10_000)
        assert "Traceback" not in page.content()
        visit.check()
        assert "Traceback" not in board.log.read_text()
        assert "part_failed" not in board.log.read_text()


def actions_of(settings: Settings, alert_id: str) -> list[AlertAction]:
    found: list[AlertAction] = []

    def take(message) -> None:
        if message.key() == alert_id.encode():
            found.append(avro.decode(message.value(), AlertAction))

    kafka.read_to_end(settings, topics.ALERT_ACTIONS, take)
    return found
