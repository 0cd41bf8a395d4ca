"""What all pages share: how a part is drawn and refreshed, and how one page leads to another."""

from __future__ import annotations

import time
from functools import wraps
from typing import TYPE_CHECKING, Final

import streamlit as st

from dashboard import language, markup
from dashboard import sources as wiring
from dashboard.problems import AwayError
from fleetwatch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetwatch.i18n import Texts

log = get_logger(__name__)

REFRESH_SECONDS: Final = 2.0
GOAL: Final = "go to"
KEPT_DEVICE: Final = "kept device"
KEPT_CAMERA: Final = "kept camera"


def part(function: Callable[[Texts], None]) -> Callable[[], None]:
    """Make a part of a page that refreshes itself and fails alone, with one line in the visitor's language."""

    @wraps(function)
    def guarded() -> None:
        say = language.say()
        try:
            function(say)
        except AwayError as error:
            draw(markup.notices([error.problem], say), say)
        except Exception:
            log.exception("part_failed", part=function.__qualname__)
            draw(markup.notice(say("problem.part")), say)

    return st.fragment(run_every=REFRESH_SECONDS)(guarded)


def draw(html: str, say: Texts) -> None:
    """Put HTML on the page, in the direction of its language."""
    if html:
        st.html(f'<div dir="{say.direction}" lang="{say.language}">{html}</div>')


def go(page: str, **query: str) -> None:
    """Leave for another page when the run that this click begins starts; for callbacks."""
    st.session_state[GOAL] = (page, query)


def kept(page: str = "") -> dict[str, str]:
    """Return what a link to a page takes along: the language, and the device or camera that was looked at."""
    query = {}
    if language.chosen() != wiring.sources().language:
        query["lang"] = language.chosen()
    for name, key in (("device", KEPT_DEVICE), ("camera", KEPT_CAMERA)):
        if page in (name, f"{name}s") and (known := st.query_params.get(name) or st.session_state.get(key)):
            query[name] = known
    return query


def now_ms() -> int:
    """Return the present in milliseconds since 1970."""
    return int(time.time() * 1000)


def texts() -> Texts:
    """Return the texts of this visit."""
    return language.say()
