"""The main script that Streamlit runs for every visitor: page settings, style, and which pages there are."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import fleet_page

HERE = Path(__file__).parent

st.set_page_config(page_title="Fleetwatch", page_icon=str(HERE / "icon.png"), layout="wide")
st.html(f"<style>{(HERE / 'style.css').read_text(encoding='utf-8')}</style>")
st.navigation([st.Page(fleet_page.render, title="Fleet", url_path="fleet", default=True)], position="hidden").run()
