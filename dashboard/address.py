"""Choices that live in the address of the page, so that a reload and a link keep them.

Streamlit's own binding writes the label of an option, which changes with the language: here it is the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Collection


def one(key: str, default: str | None = None, options: Collection[str] | None = None) -> dict[str, Any]:
    """Seed a widget with one value, and return its arguments: ``st.selectbox(..., **one("device"))``.

    A value in the address that is none of the ``options`` is not used.
    """
    if key not in st.session_state:
        value = st.query_params.get(key, default)
        st.session_state[key] = value if options is None or value in options else default
    return {"key": key, "on_change": _keep, "args": (key, default)}


def many(key: str, options: Collection[str] | None = None) -> dict[str, Any]:
    """Seed a widget with any number of values, and return its arguments."""
    if key not in st.session_state:
        found = st.query_params.get_all(key)
        st.session_state[key] = [value for value in found if options is None or value in options]
    return {"key": key, "on_change": _keep, "args": (key, None)}


def text(key: str) -> dict[str, Any]:
    """Seed a text field, and return its arguments."""
    return one(key, "")


def chosen(key: str) -> Any:
    """Return what is chosen now: as the widget has it, or as the address says before it was drawn."""
    return st.session_state[key] if key in st.session_state else st.query_params.get(key)


def _keep(key: str, default: str | None) -> None:
    """Write what was chosen into the address; the default stands for itself."""
    value = st.session_state.get(key)
    if not value or value == default:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = value
