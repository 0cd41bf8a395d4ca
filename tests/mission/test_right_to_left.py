"""Mission, row "Hebrew and right to left": every page mirrored in a real browser, ids and numbers in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleetwatch import topics
from fleetwatch.records import Severity
from sinks.migrate import migrate
from tests.dashboards import Feed, now, running, store, unique, visiting
from tests.unit.dashboard.factories import alert, dead_letter, detection, model, reading

if TYPE_CHECKING:
    from pathlib import Path

    from fleetwatch.settings import Settings

pytestmark = pytest.mark.integration

WIDTH = 1400
PAGES = {
    "": "[data-device]", "device": "[data-history]", "cameras": "[data-camera]", "alerts": "[data-alert]",
    "models": "[data-model]", "pipeline": "[data-part]",
}  # fmt: skip
"""Address of a page -> what is on it when its content is there."""
ANCHORS = (".fw-title", ".st-key-links", "[data-testid='stButtonGroup']")
"""Stand in the same order on every page: brand, links, language."""


def middle(page: Any, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    assert box is not None, selector
    return float(box["x"] + box["width"] / 2)


def test_every_page_stands_from_right_to_left_with_ids_and_numbers_in_order(
    settings: Settings, postgres_url: str, redis_url: str, chromium: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    migrate(postgres_url)
    sensor, camera, version = unique("pump"), unique("cam"), unique("v")
    feed = Feed(settings)
    store(postgres_url, [reading(sensor, at=now(), seq=1, value=-4.25)])
    feed.send(topics.SCORED, reading(sensor, at=now(), seq=2, value=-4.25, unit="Cel"))
    feed.send(topics.DETECTIONS, *(detection(camera, at=now(), seq=n) for n in range(3)))
    feed.send(topics.ALERTS, alert(unique("a"), at=now(), device_id=sensor, severity=Severity.CRITICAL))
    feed.send(topics.MODELS, model(version, sensor_type=unique("kind")), key=version)
    feed.send(topics.DEAD_LETTERS, dead_letter(at=now()))
    with (
        running(settings, tmp_path / "log", DATABASE_URL=postgres_url, REDIS_URL=redis_url) as board,
        visiting(board, chromium) as visit,
    ):
        page = visit.page
        visit.open("?lang=en")
        page.locator(PAGES[""]).first.wait_for(timeout=20_000)
        english = [middle(page, anchor) for anchor in ANCHORS]
        assert english == sorted(english)
        for path, content in PAGES.items():
            visit.open(f"{path}?lang=he")
            page.locator(content).first.wait_for(timeout=20_000)
            places = [middle(page, anchor) for anchor in ANCHORS]
            assert places == sorted(places, reverse=True), path
            assert abs(places[0] - (WIDTH - english[0])) < 40, "the brand stands where it is mirrored to"
            directions = page.evaluate("[...document.querySelectorAll('[dir][lang]')].map(e => e.dir + e.lang)")
            assert set(directions) == {"rtlhe"}, path
            assert page.evaluate("getComputedStyle(document.body).direction") == "rtl"
            text = page.evaluate("document.querySelector('[data-testid=stMain]').innerText")
            assert "\u2068" in text, path
            assert text.count("\u2068") == text.count("\u2069"), path
            assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= WIDTH, path

        # charts and measurements stay from left to right
        visit.open(f"device?lang=he&device={sensor}")
        chart = page.locator("[data-testid='stVegaLiteChart']").first
        chart.wait_for(timeout=20_000)
        assert chart.evaluate("e => getComputedStyle(e).direction") == "ltr"
        visit.open(f"?lang=he&search={sensor}")
        card = page.locator(f"[data-device='{sensor}']")
        card.wait_for(timeout=20_000)
        value = card.locator(".fw-value")
        assert value.evaluate("e => getComputedStyle(e).direction") == "ltr"
        assert value.inner_text().replace("\n", "") == "-4.250°C"
        minus, unit = (at(value, sign) for sign in ("-", "°"))
        assert minus < unit, "the minus stands before the number"
        assert at(card.locator(".fw-id"), sensor[0]) < at(card.locator(".fw-id"), sensor[-1])

        # the switch, and the choice in the address
        page.get_by_role("radio", name="English").or_(page.get_by_role("button", name="English")).first.click()
        expect(card).to_contain_text("Critical", timeout=15_000)
        page.wait_for_function("getComputedStyle(document.body).direction == 'ltr'", timeout=10_000)
        assert "lang=" not in page.url
        visit.check()
        assert "part_failed" not in board.log.read_text()


def at(place: Any, sign: str) -> float:
    """Return where on the screen the first (for the last letter of a name: the last) such character is drawn."""
    return float(
        place.evaluate(
            """(element, sign) => {
                const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
                for (let node; (node = walker.nextNode()); ) {
                    const index = node.textContent.lastIndexOf(sign);
                    if (index < 0) continue;
                    const range = document.createRange();
                    range.setStart(node, index);
                    range.setEnd(node, index + 1);
                    return range.getBoundingClientRect().x;
                }
                throw new Error(`no ${sign}`);
            }""",
            sign,
        )
    )
