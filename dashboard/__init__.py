"""Streamlit pages over the output topics and the database."""
