"""Sources of the pages that a test holds in its hands, and pages run on them by Streamlit's AppTest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import dashboard
from dashboard.event_reads import PastAlerts
from dashboard.live import Board
from dashboard.problems import AwayError
from dashboard.watch import Seen

SCRIPT = Path(dashboard.__file__).parent / "app.py"
PAGES = ("fleet", "device", "cameras", "alerts", "models", "pipeline")


@dataclass
class HeldLive:
    """A live view that stands still."""

    board: Board = field(default_factory=Board)
    problems: tuple = ()
    is_running: bool = True

    def stop(self):
        self.is_running = False


@dataclass
class HeldPast:
    """A database of what it was given; every question fails while there is a problem."""

    stored: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    alerts: PastAlerts = field(default_factory=lambda: PastAlerts((), has_more=False))
    counts: list = field(default_factory=list)
    problem: str = ""
    asked: list = field(default_factory=list)

    def history(self, device_id, span):
        return self._answer(("history", device_id, span), self.stored.get(device_id))

    def sensor_names(self):
        return self._answer(("names",), list(self.stored))

    def sightings(self, camera_id, span):
        return self._answer(("sightings", camera_id, span), self.seen.get(camera_id))

    def past_alerts(self, since, severities):
        return self._answer(("alerts", since, severities), self.alerts)

    def refusals(self, since):
        return self._answer(("refusals", since), self.counts)

    def close(self):
        pass

    def _answer(self, question, answer):
        self.asked.append(question)
        if self.problem:
            raise AwayError(self.problem)
        return answer


@dataclass
class HeldOffsets:
    """A watch that saw what it was given."""

    last: Seen = field(default_factory=Seen)

    def seen(self):
        return self.last

    def stop(self):
        pass


@dataclass
class HeldDesk:
    """Takes actions, or does not."""

    sent: list = field(default_factory=list)
    problem: str = ""

    def send(self, action):
        if self.problem:
            raise AwayError(self.problem)
        self.sent.append(action)

    def close(self):
        pass


def run(page="fleet", **query):
    """Open a page as a link does."""
    app = AppTest.from_file(str(SCRIPT), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    if page != "fleet":
        app._page_hash = calc_hash(page)  # a page that is a function has no file to be named by
    app.run()
    check(app)
    return app


def check(app):
    """Nothing failed, also not in a part that says so itself."""
    assert not app.exception
    assert not app.error
    html = html_of(app)
    for failed in ("met an unexpected error and tries", "אירעה שגיאה לא צפויה"):
        assert failed not in html


def html_of(app):
    return "\n".join(element.proto.body for element in app.get("html"))
