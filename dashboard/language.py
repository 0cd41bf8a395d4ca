"""The language of a visit: kept in the address (``?lang=he``), from the settings until somebody chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard import address
from dashboard import sources as wiring
from fleetwatch import i18n

if TYPE_CHECKING:
    from fleetwatch.i18n import Texts


def switch() -> None:
    """Draw the switch; whatever speaks comes after it."""
    st.segmented_control(
        "Language / שפה",
        list(i18n.LANGUAGES),
        format_func=i18n.LANGUAGES.__getitem__,
        label_visibility="collapsed",
        required=True,
        **address.one("lang", wiring.sources().language, i18n.LANGUAGES),
    )


def chosen() -> str:
    """Return the code of the language of this visit."""
    language = st.session_state.get("lang")
    return language if language in i18n.LANGUAGES else wiring.sources().language


def say() -> Texts:
    """Return the texts of this visit."""
    return i18n.texts("dashboard", chosen())
